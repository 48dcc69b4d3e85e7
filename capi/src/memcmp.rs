//! The one function of C's library, beside `memcpy` and `memset`, that the compiler makes calls of. Weak, so that the client's own
//! takes its place where there is one.

core::arch::global_asm!(
    ".pushsection .text.memcmp, \"ax\", @progbits",
    ".weak memcmp",
    ".type memcmp, @function",
    "memcmp:",
    "mov rcx, rdx",
    "xor eax, eax",
    "cmp eax, eax", // equal, if there is no byte
    "repe cmpsb",
    "je 2f",
    "movzx eax, byte ptr [rdi - 1]",
    "movzx ecx, byte ptr [rsi - 1]",
    "sub eax, ecx",
    "2: ret",
    ".size memcmp, . - memcmp",
    ".popsection",
);

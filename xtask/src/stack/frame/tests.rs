//! Frames of functions, each written as its bytes.

use iced_x86::{Decoder, DecoderOptions};

use super::*;

/// A slot of the global offset table, and two jump tables: at 0x3000 with two entries, and right behind it. The same at 0x4000, of
/// addresses. What lies from 0x7000 on is known to be addresses where instructions hold it as numbers.
struct Image;

impl Data for Image {
    fn slot(&self, address: u64) -> Option<u64> {
        match address {
            0x2000 => Some(0x9000),
            0x4000 => Some(0x100a),
            0x4008 => Some(0x100f),
            0x4010 => Some(0x1015),
            _ => None,
        }
    }

    fn numbers(&self, it: &Instruction) -> Vec<u64> {
        let held = (it.op1_kind() == OpKind::Immediate32).then(|| it.immediate(1));
        held.filter(|number| (0x7000..0x8000).contains(number)).into_iter().collect()
    }

    fn word(&self, address: u64) -> Option<i32> {
        match address {
            0x3000 => Some(0x1010 - 0x3000),
            0x3004 => Some(0x1015 - 0x3000),
            0x3008 => Some(0x101b - 0x3000),
            _ => Some(0),
        }
    }

    fn begins(&self, address: u64) -> bool {
        matches!(address, 0x3008 | 0x4010)
    }

    fn probes(&self, function: u64) -> bool {
        function == 0x8000
    }
}

/// The frame of a function at 0x1000.
fn frame(code: &[u8]) -> Result<Frame> {
    let instructions: Vec<_> = Decoder::with_ip(64, code, 0x1000, DecoderOptions::NONE).iter().collect();
    assert!(instructions.iter().all(|it| !it.is_invalid()));
    Frame::of(&instructions, &Image)
}

fn takes(code: &[u8], bytes: u64, calls: &[(u64, u64)]) {
    let frame = frame(code).unwrap();
    assert_eq!((frame.bytes, frame.calls), (bytes, calls.iter().copied().collect()));
}

#[test]
fn pushes_and_subtractions_add_up() {
    // push rbp; push rbx; sub rsp, 0x28; call 0x1080; add rsp, 0x28; pop rbx; pop rbp; ret
    takes(b"\x55\x53\x48\x83\xec\x28\xe8\x75\0\0\0\x48\x83\xc4\x28\x5b\x5d\xc3", 56, &[(0x1080, 64)]);
}

#[test]
fn a_tail_jump_takes_no_return_address() {
    // push rbx; call 0x1080; pop rbx; jmp 0x1090
    takes(b"\x53\xe8\x7a\0\0\0\x5b\xe9\x84\0\0\0", 8, &[(0x1080, 16), (0x1090, 0)]);
}

#[test]
fn each_path_has_its_own_depth() {
    // test rdi, rdi; je +6; call 0x1080; ret; push rbx; sub rsp, 0x100; jmp 0x1080
    let code = b"\x48\x85\xff\x74\x06\xe8\x76\0\0\0\xc3\x53\x48\x81\xec\0\x01\0\0\xe9\x68\0\0\0";
    takes(code, 264, &[(0x1080, 264)]);
}

#[test]
fn a_large_frame_that_is_probed_page_by_page_is_seen_whole() {
    // lea r11, [rsp-0x5000]; sub rsp, 0x1000; mov qword [rsp], 0; cmp rsp, r11; jne -0x14; sub rsp, 0x10; ret
    let code = b"\x4c\x8d\x9c\x24\0\xb0\xff\xff\x48\x81\xec\0\x10\0\0\x48\xc7\x04\x24\0\0\0\0\
        \x4c\x39\xdc\x75\xec\x48\x83\xec\x10\xc3";
    takes(code, 0x5010, &[]);
    // mov r11, rsp; sub r11, 0x5000; and on as above
    let code = b"\x49\x89\xe3\x49\x81\xeb\0\x50\0\0\x48\x81\xec\0\x10\0\0\x48\xc7\x04\x24\0\0\0\0\
        \x4c\x39\xdc\x75\xec\x48\x83\xec\x10\xc3";
    takes(code, 0x5010, &[]);
    // mov eax, 0x5000; call 0x8000, which probes; sub rsp, rax; ret
    takes(b"\xb8\0\x50\0\0\xe8\xf6\x6f\0\0\x48\x29\xc4\xc3", 0x5000, &[]);
    // The same with 0x1080, which does not, and so keeps no register.
    assert!(frame(b"\xb8\0\x50\0\0\xe8\x76\0\0\0\x48\x29\xc4\xc3").is_err());
    // mov eax, 0x5000; sub rsp, rax; ret
    takes(b"\xb8\0\x50\0\0\x48\x29\xc4\xc3", 0x5000, &[]);
}

#[test]
fn a_frame_of_unknown_size_is_an_error() {
    // sub rsp, rdi
    let error = frame(b"\x48\x29\xfc\xc3").unwrap_err().to_string();
    assert!(error.contains("at 0x1000"), "{error}");
}

#[test]
fn an_aligned_frame_takes_what_it_may() {
    // push rbp; mov rbp, rsp; and rsp, -64; sub rsp, 0x40; call 0x1080; mov rsp, rbp; pop rbp; ret
    let code = b"\x55\x48\x89\xe5\x48\x83\xe4\xc0\x48\x83\xec\x40\xe8\x6f\0\0\0\x48\x89\xec\x5d\xc3";
    takes(code, 8 + 56 + 64, &[(0x1080, 136)]);
    // the same with `leave`, and a tail jump behind it
    let code = b"\x55\x48\x89\xe5\x48\x83\xe4\xc0\x48\x83\xec\x40\xc9\xe9\x6e\0\0\0";
    takes(code, 128, &[(0x1080, 0)]);
}

#[test]
fn a_pointer_of_the_offset_table_is_followed_wherever_kept() {
    // call [rip+0xffa], which is 0x2000; ret
    takes(b"\xff\x15\xfa\x0f\0\0\xc3", 0, &[(0x9000, 8)]);
    // push rbx; mov rbx, [0x2000]; call 0x1080; call rbx; pop rbx; jmp [0x2000]
    let code = b"\x53\x48\x8b\x1d\xf8\x0f\0\0\xe8\x73\0\0\0\xff\xd3\x5b\xff\x25\xea\x0f\0\0";
    takes(code, 8, &[(0x1080, 16), (0x9000, 16)]);
    // sub rsp, 0x18; mov rax, [0x2000]; mov [rsp+8], rax; call 0x1080; call [rsp+8]; ret
    let code = b"\x48\x83\xec\x18\x48\x8b\x05\xf5\x0f\0\0\x48\x89\x44\x24\x08\xe8\x6b\0\0\0\
        \xff\x54\x24\x08\xc3";
    takes(code, 0x18, &[(0x1080, 32), (0x9000, 32)]);
}

#[test]
fn an_address_that_is_taken_and_not_called_is_a_pointer() {
    // lea rdi, [0x1100]; mov rsi, [0x2000]; call 0x1080; ret
    let seen = frame(b"\x48\x8d\x3d\xf9\0\0\0\x48\x8b\x35\xf2\x0f\0\0\xe8\x6d\0\0\0\xc3").unwrap();
    assert_eq!(seen.pointers, BTreeSet::from([0x1100, 0x9000]));
    // mov rsi, [0x2000]; call rsi; ret
    let seen = frame(b"\x48\x8b\x35\xf9\x0f\0\0\xff\xd6\xc3").unwrap();
    assert_eq!((seen.pointers, seen.calls), (BTreeSet::new(), BTreeMap::from([(0x9000, 8)])));
}

#[test]
fn a_pointer_of_an_unknown_table_is_known_by_its_place_there() {
    // push rbx; call [rsi+0x20]; mov rax, [rsi+0x18]; mov rbx, rax; call 0x1080; call rbx; pop rbx; jmp [rdi]
    let code = b"\x53\xff\x56\x20\x48\x8b\x46\x18\x48\x89\xc3\xe8\x70\0\0\0\xff\xd3\x5b\xff\x27";
    let seen = frame(code).unwrap();
    assert_eq!(seen.taken_at_unknown, BTreeMap::from([(Some(0x20), 16), (Some(0x18), 16), (Some(0), 0)]));
    // call [rsi+8*rdi]; ret
    assert_eq!(frame(b"\xff\x14\xfe\xc3").unwrap().taken_at_unknown, BTreeMap::from([(None, 8)]));
}

#[test]
fn a_register_that_a_call_does_not_keep_is_forgotten() {
    // mov rax, [0x2000]; call 0x1080; call rax; ret
    let seen = frame(b"\x48\x8b\x05\xf9\x0f\0\0\xe8\x74\0\0\0\xff\xd0\xc3").unwrap();
    assert_eq!((seen.calls, seen.taken_at_unknown), (BTreeMap::from([(0x1080, 8)]), BTreeMap::from([(None, 8)])));
}

#[test]
fn a_jump_table_leads_to_each_of_its_targets() {
    // lea rcx, [0x3000]; movsxd rax, [rcx+rdi*4]; add rax, rcx; jmp rax; 0x1010: jmp 0x1080; 0x1015: push; jmp 0x1090;
    // 0x101b, which is of another table: jmp 0x10a0
    let code =
        b"\x48\x8d\x0d\xf9\x1f\0\0\x48\x63\x04\xb9\x48\x01\xc8\xff\xe0\xe9\x6b\0\0\0\x53\xe9\x75\0\0\0\xe9\x80\0\0\0";
    takes(code, 8, &[(0x1080, 0), (0x1090, 8)]);
}

#[test]
fn a_jump_table_of_addresses_leads_to_each_of_them() {
    // 0x100a: jmp 0x1080; 0x100f: push rbx; jmp 0x1090; 0x1015, which is of another table: jmp 0x10a0
    let targets = b"\xe9\x71\0\0\0\x53\xe9\x7b\0\0\0\xe9\x86\0\0\0";
    // jmp [rdi*8+0x4000]; or mov rax, [rdi*8+0x4000]; jmp rax
    for jump in [b"\xff\x24\xfd\0\x40\0\0\x90\x90\x90", b"\x48\x8b\x04\xfd\0\x40\0\0\xff\xe0"] {
        takes(&[&jump[..], targets].concat(), 8, &[(0x1080, 0), (0x1090, 8)]);
    }
}

#[test]
fn a_jump_table_that_cannot_be_read_is_an_error() {
    // jmp [rdi*8+0x6000]; push rbx; ret
    let error = frame(b"\xff\x24\xfd\0\x60\0\0\x53\xc3").unwrap_err();
    assert_eq!(error.to_string(), "the jump at 0x1000 may lead to 0x1007, or elsewhere");
}

#[test]
fn an_address_that_is_a_number_is_called_or_a_pointer() {
    // push rbx; mov ebx, 0x7000; call rbx; mov edi, 0x7100; mov esi, 0x100; pop rbx; jmp 0x1080
    let code = b"\x53\xbb\0\x70\0\0\xff\xd3\xbf\0\x71\0\0\xbe\0\x01\0\0\x5b\xe9\x68\0\0\0";
    let Frame { calls, pointers, .. } = frame(code).unwrap();
    assert_eq!(calls, BTreeMap::from([(0x7000, 16), (0x1080, 0)]));
    assert_eq!(pointers, BTreeSet::from([0x7100]));
}

#[test]
fn a_jump_to_an_unknown_place_is_a_call_or_an_error() {
    // jmp rdi, and nothing else: another function
    let seen = frame(b"\xff\xe7").unwrap();
    assert_eq!((seen.bytes, seen.calls, seen.unknown), (0, BTreeMap::new(), 1));
    // jmp rdi; push rbx; ret: perhaps to the push
    let error = frame(b"\xff\xe7\x53\xc3").unwrap_err().to_string();
    assert_eq!(error, "the jump at 0x1000 may lead to 0x1002, or elsewhere");
}

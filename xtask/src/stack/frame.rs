//! How deep the stack is at each instruction of one function, and whom it calls there.
//!
//! Follows every path through the function, with what is known of each register: how far from the return address it points
//! into the stack, or which address it holds. So a function pointer that the compiler takes from the global offset table,
//! keeps in a register or puts aside on the stack is a direct call as well.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};
use iced_x86::{FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register};

/// A return address, a register that is pushed.
const WORD: i64 = 8;
/// Every path of a function comes to rest long before.
const MAX_STEPS: usize = 1 << 22;
/// What a call does not keep.
const CALLER_SAVED: [Register; 9] = [
    Register::RAX,
    Register::RCX,
    Register::RDX,
    Register::RSI,
    Register::RDI,
    Register::R8,
    Register::R9,
    Register::R10,
    Register::R11,
];

/// What the image says beside the function's instructions.
pub trait Data {
    /// The address that a slot of the global offset table, or of another table that is never written, holds.
    fn slot(&self, address: u64) -> Option<u64>;
    /// A word of a jump table.
    fn word(&self, address: u64) -> Option<i32>;
    /// True if an instruction of the image takes this address: another table begins there.
    fn begins(&self, address: u64) -> bool;
    /// True for the function that touches the pages of a large frame: it keeps all registers, and all that it touches belongs
    /// to the frame.
    fn probes(&self, function: u64) -> bool;
}

/// One function's use of the stack, in bytes below its return address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// The most that it takes itself.
    pub bytes: u64,
    /// Where it leads, with the bytes that are taken there: for a call the return address is one of them.
    pub calls: BTreeMap<u64, u64>,
    /// How many calls there are of nobody knows whom.
    pub unknown: usize,
    /// The most bytes that are taken at one, by how far from the start of a table the pointer lies, if it is from one.
    pub taken_at_unknown: BTreeMap<Option<u64>, u64>,
    /// The addresses that it takes other than to call what is there: of functions, and of tables that may hold some.
    pub pointers: BTreeSet<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    /// So many bytes below the return address.
    Stack(i64),
    Number(u64),
    Address(u64),
    /// A pointer from a table that is not known, so far from its start.
    Method(u64),
    /// What a jump table holds, and the instruction that follows from it.
    Entry(u64),
    Target(u64),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct State {
    depth: i64,
    registers: BTreeMap<Register, Value>,
    /// By how far below the return address they lie.
    aside: BTreeMap<i64, Value>,
    /// What the stack pointer was just compared with: the end of a loop that touches each page of a large frame.
    end_of_probes: Option<i64>,
}

impl State {
    fn get(&self, register: Register) -> Option<Value> {
        let stack = (register == Register::RSP).then_some(Value::Stack(self.depth));
        stack.or_else(|| self.registers.get(&register).copied())
    }

    fn set(&mut self, register: Register, value: Option<Value>) {
        match value {
            Some(value) => self.registers.insert(register, value),
            None => self.registers.remove(&register),
        };
    }

    /// The place of a memory operand in the stack, if it is there and nothing is scaled.
    fn position(&self, it: &Instruction) -> Option<i64> {
        match self.get(it.memory_base()) {
            Some(Value::Stack(depth)) if it.memory_index() == Register::None => {
                Some(depth.wrapping_sub(it.memory_displacement64() as i64))
            }
            _ => None,
        }
    }

    /// Takes over what holds on another path to the same instruction: the deeper stack, and what is known on both. `false`
    /// if that is nothing new.
    fn join(&mut self, other: &Self) -> bool {
        let before = (self.depth, self.registers.len(), self.aside.len(), self.end_of_probes);
        self.depth = self.depth.max(other.depth);
        self.registers.retain(|register, value| other.registers.get(register) == Some(value));
        self.aside.retain(|position, value| other.aside.get(position) == Some(value));
        self.end_of_probes = self.end_of_probes.filter(|_| self.end_of_probes == other.end_of_probes);
        before != (self.depth, self.registers.len(), self.aside.len(), self.end_of_probes)
    }
}

impl Frame {
    /// Follows a function whose instructions are these.
    ///
    /// # Errors
    ///
    /// The stack pointer becomes something that does not follow from the instructions, or a jump table cannot be read.
    pub fn of(instructions: &[Instruction], data: &impl Data) -> Result<Self> {
        let info = InstructionInfoFactory::new();
        let (frame, loaded) = (Self::default(), BTreeSet::new());
        let mut walk = Walk { instructions, data, frame, loaded, leaves: None, info };
        let mut states: Vec<Option<State>> = vec![None; instructions.len()];
        let mut waiting = vec![(0, State::default())];
        for _ in 0..MAX_STEPS {
            let Some((at, state)) = waiting.pop() else {
                let unseen = instructions.iter().zip(&states).find(|(it, state)| state.is_none() && !is_padding(it));
                if let (Some(jump), Some((unseen, _))) = (walk.leaves, unseen) {
                    bail!("the jump at {jump:#x} may lead to {:#x}, or elsewhere", unseen.ip());
                }
                let Frame { calls, pointers, .. } = &mut walk.frame;
                pointers.extend(walk.loaded.iter().filter(|address| !calls.contains_key(address)));
                return Ok(walk.frame);
            };
            let Some(known) = states.get_mut(at) else { continue };
            let state = match known {
                Some(known) => {
                    if !known.join(&state) {
                        continue;
                    }
                    known.clone()
                }
                None => known.insert(state).clone(),
            };
            walk.step(at, state, &mut waiting)?;
        }
        bail!("its paths never come to rest")
    }
}

struct Walk<'a, D> {
    instructions: &'a [Instruction],
    data: &'a D,
    frame: Frame,
    /// Addresses from the global offset table: most are of functions that are called.
    loaded: BTreeSet<u64>,
    /// A jump of which it is not known where it leads: if all the rest was seen it leaves the function.
    leaves: Option<u64>,
    info: InstructionInfoFactory,
}

impl<D: Data> Walk<'_, D> {
    /// One instruction: what holds after it, wherever it leads.
    fn step(&mut self, at: usize, before: State, waiting: &mut Vec<(usize, State)>) -> Result<()> {
        let Some(it) = self.instructions.get(at).copied() else { return Ok(()) };
        let probes = before.end_of_probes;
        let mut after = before.clone();
        after.end_of_probes = None;
        self.effect(&it, &before, &mut after)?;
        self.frame.bytes = self.frame.bytes.max(after.depth as u64);
        match it.flow_control() {
            FlowControl::Next => waiting.push((at + 1, after)),
            FlowControl::Call | FlowControl::IndirectCall => {
                let callee = self.target(&it, &before);
                if !callee.is_ok_and(|callee| self.data.probes(callee)) {
                    self.leads(callee, before.depth + WORD);
                    CALLER_SAVED.iter().for_each(|register| after.set(*register, None));
                }
                waiting.push((at + 1, after));
            }
            FlowControl::ConditionalBranch => {
                match probes.filter(|_| it.near_branch_target() < it.ip()) {
                    Some(depth) => after.depth = depth,
                    None => self.jump(it.near_branch_target(), &after, waiting),
                }
                self.frame.bytes = self.frame.bytes.max(after.depth as u64);
                waiting.push((at + 1, after));
            }
            FlowControl::UnconditionalBranch => self.jump(it.near_branch_target(), &after, waiting),
            FlowControl::IndirectBranch => match (it.op0_kind(), before.get(it.op0_register())) {
                (OpKind::Register, Some(Value::Target(table))) => self.jump_by_table(table, &after, waiting),
                _ => match self.target(&it, &before) {
                    Ok(target) => self.jump(target, &after, waiting),
                    Err(offset) => {
                        self.leaves = Some(it.ip());
                        self.leads(Err(offset), after.depth);
                    }
                },
            },
            FlowControl::Return | FlowControl::Interrupt | FlowControl::Exception | FlowControl::XbeginXabortXend => {}
        }
        Ok(())
    }

    fn leads(&mut self, to: Result<u64, Option<u64>>, depth: i64) {
        let most = match to {
            Ok(to) => self.frame.calls.entry(to).or_default(),
            Err(offset) => {
                self.frame.unknown += 1;
                self.frame.taken_at_unknown.entry(offset).or_default()
            }
        };
        *most = (*most).max(depth as u64);
    }

    /// To an instruction of this function, or to another function that then returns in its stead.
    fn jump(&mut self, target: u64, state: &State, waiting: &mut Vec<(usize, State)>) {
        match self.instructions.binary_search_by_key(&target, Instruction::ip) {
            Ok(at) => waiting.push((at, state.clone())),
            Err(_) => self.leads(Ok(target), state.depth),
        }
    }

    /// To each instruction that a table names. It ends where another begins, or where an entry leads elsewhere.
    fn jump_by_table(&mut self, table: u64, state: &State, waiting: &mut Vec<(usize, State)>) {
        for entry in (table..).step_by(4) {
            if entry != table && self.data.begins(entry) {
                return;
            }
            let target = self.data.word(entry).map(|word| table.wrapping_add_signed(word.into()));
            let at = target.and_then(|to| self.instructions.binary_search_by_key(&to, Instruction::ip).ok());
            let Some(at) = at else { return };
            waiting.push((at, state.clone()));
        }
    }

    /// Where a call or an indirect jump leads, or else how far from the start of a table the pointer lies, if it is from one.
    fn target(&self, it: &Instruction, state: &State) -> Result<u64, Option<u64>> {
        let held = match it.op0_kind() {
            OpKind::NearBranch64 => return Ok(it.near_branch_target()),
            OpKind::Register => state.get(it.op0_register()),
            OpKind::Memory => self.loaded(it, state),
            _ => None,
        };
        match held {
            Some(Value::Address(address)) => Ok(address),
            Some(Value::Method(offset)) => Err(Some(offset)),
            _ => Err(None),
        }
    }

    /// What a memory operand of 64 bits holds.
    fn loaded(&self, it: &Instruction, state: &State) -> Option<Value> {
        if it.is_ip_rel_memory_operand() {
            return self.data.slot(it.ip_rel_memory_address()).map(Value::Address);
        }
        if let Some(position) = state.position(it) {
            return state.aside.get(&position).copied();
        }
        let plain = it.memory_base().is_gpr64() && it.memory_index() == Register::None;
        plain.then(|| Value::Method(it.memory_displacement64()))
    }

    /// What an instruction does to the stack pointer, and to what is known of registers and of what is put aside.
    fn effect(&mut self, it: &Instruction, before: &State, after: &mut State) -> Result<()> {
        for used in self.info.info(it).used_registers() {
            use OpAccess::{CondWrite, ReadCondWrite, ReadWrite, Write};
            if matches!(used.access(), Write | CondWrite | ReadWrite | ReadCondWrite) {
                after.set(used.register().full_register(), None);
            }
        }
        if it.op0_kind() == OpKind::Memory
            && let Some(position) = before.position(it)
        {
            let moved = it.mnemonic() == Mnemonic::Mov && it.op1_kind() == OpKind::Register;
            match before.get(it.op1_register()).filter(|_| moved) {
                Some(value) => after.aside.insert(position, value),
                None if only_reads(it) => None,
                None => after.aside.remove(&position),
            };
        }
        if it.op0_kind() == OpKind::Register && it.op0_register() == Register::RSP {
            return self.moves_the_stack(it, before, after);
        }
        after.depth = before.depth.saturating_sub(match it.mnemonic() {
            Mnemonic::Call | Mnemonic::Ret => 0,
            Mnemonic::Leave => match before.get(Register::RBP) {
                Some(Value::Stack(depth)) => before.depth - (depth - WORD),
                _ => bail!("the stack pointer comes from an unknown one at {:#x}", it.ip()),
            },
            _ => it.stack_pointer_increment().into(),
        });
        if it.mnemonic() == Mnemonic::Push {
            after.aside.remove(&after.depth);
        }
        if it.op0_kind() == OpKind::Register {
            let value = self.value(it, before);
            if let (Some(Value::Address(address)), true) = (value, it.is_ip_rel_memory_operand()) {
                let taken = if it.mnemonic() == Mnemonic::Lea { &mut self.frame.pointers } else { &mut self.loaded };
                taken.insert(address);
            }
            if value.is_some() {
                after.set(it.op0_register().full_register(), value);
            }
        }
        Ok(())
    }

    /// What the first operand, a register, is known to hold after an instruction.
    fn value(&self, it: &Instruction, before: &State) -> Option<Value> {
        let first = before.get(it.op0_register().full_register());
        let second = (it.op1_kind() == OpKind::Register).then(|| before.get(it.op1_register())).flatten();
        let whole = it.op0_register().is_gpr64();
        match it.mnemonic() {
            Mnemonic::Mov => match it.op1_kind() {
                OpKind::Register if whole => second,
                OpKind::Memory if whole => self.loaded(it, before),
                OpKind::Immediate32 | OpKind::Immediate32to64 | OpKind::Immediate64 => {
                    Some(Value::Number(it.immediate(1)))
                }
                _ => None,
            },
            Mnemonic::Lea if it.is_ip_rel_memory_operand() => Some(Value::Address(it.ip_rel_memory_address())),
            Mnemonic::Lea if whole => before.position(it).map(Value::Stack),
            Mnemonic::Movsxd => match before.get(it.memory_base()) {
                Some(Value::Address(table)) if it.memory_index_scale() == 4 && it.memory_displacement64() == 0 => {
                    Some(Value::Entry(table))
                }
                _ => None,
            },
            Mnemonic::Add => match (first, second) {
                (Some(Value::Entry(table)), Some(Value::Address(base))) if table == base => Some(Value::Target(table)),
                (Some(Value::Address(base)), Some(Value::Entry(table))) if table == base => Some(Value::Target(table)),
                _ => None,
            },
            Mnemonic::Sub if it.op1_kind() != OpKind::Register && it.op1_kind() != OpKind::Memory => match first {
                Some(Value::Stack(depth)) => Some(Value::Stack(depth + it.immediate(1) as i64)),
                _ => None,
            },
            _ => None,
        }
    }

    /// The stack pointer is the first operand.
    fn moves_the_stack(&self, it: &Instruction, before: &State, after: &mut State) -> Result<()> {
        let second = (it.op1_kind() == OpKind::Register).then(|| before.get(it.op1_register())).flatten();
        let immediate = !matches!(it.op1_kind(), OpKind::Register | OpKind::Memory);
        after.depth = match (it.mnemonic(), second) {
            (Mnemonic::Sub, _) if immediate => before.depth + it.immediate(1) as i64,
            (Mnemonic::Add, _) if immediate => before.depth - it.immediate(1) as i64,
            (Mnemonic::Sub, Some(Value::Number(bytes))) => before.depth + bytes as i64,
            (Mnemonic::Add, Some(Value::Number(bytes))) => before.depth - bytes as i64,
            // Aligned down: at most so many bytes more, since it is a multiple of 8 already.
            (Mnemonic::And, _) if immediate => before.depth + (-(it.immediate(1) as i64) - WORD).max(0),
            (Mnemonic::Mov, Some(Value::Stack(depth))) => depth,
            (Mnemonic::Lea, _) if let Some(depth) = before.position(it) => depth,
            (Mnemonic::Cmp | Mnemonic::Test, second) => {
                after.end_of_probes = match second {
                    Some(Value::Stack(depth)) if it.mnemonic() == Mnemonic::Cmp => Some(depth),
                    _ => None,
                };
                before.depth
            }
            _ => bail!("the stack pointer becomes an unknown one by {:?} at {:#x}", it.code(), it.ip()),
        };
        Ok(())
    }
}

/// What the compiler puts where nothing ever comes.
fn is_padding(it: &Instruction) -> bool {
    matches!(it.mnemonic(), Mnemonic::Nop | Mnemonic::Int3 | Mnemonic::Ud2)
}

/// True if a memory operand that comes first is read only.
fn only_reads(it: &Instruction) -> bool {
    use Mnemonic::{Call, Cmp, Jmp, Push, Test};
    matches!(it.mnemonic(), Call | Cmp | Jmp | Push | Test)
}

#[cfg(test)]
mod tests {
    use iced_x86::{Decoder, DecoderOptions};

    use super::*;

    /// A slot of the global offset table, and two jump tables: at 0x3000 with two entries, and right behind it.
    struct Image;

    impl Data for Image {
        fn slot(&self, address: u64) -> Option<u64> {
            (address == 0x2000).then_some(0x9000)
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
            address == 0x3008
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
    fn a_pointer_of_an_unknown_table_is_told_by_its_place_there() {
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
        let code = b"\x48\x8d\x0d\xf9\x1f\0\0\x48\x63\x04\xb9\x48\x01\xc8\xff\xe0\xe9\x6b\0\0\0\x53\xe9\x75\0\0\0\xe9\x80\0\0\0";
        takes(code, 8, &[(0x1080, 0), (0x1090, 8)]);
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
}

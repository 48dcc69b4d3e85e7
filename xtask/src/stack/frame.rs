//! How deep the stack is at each instruction of one function, and whom it calls there.
//!
//! Follows every path through the function, with what is known of each register: how far from the return address it points
//! into the stack, or which address it holds. So a function pointer that the compiler takes from the global offset table,
//! keeps in a register or puts aside on the stack is a direct call as well.

mod state;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};
use iced_x86::{FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register};

use state::{State, Value};

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
    /// The addresses that an instruction holds as numbers, where the image is not position independent.
    fn numbers(&self, it: &Instruction) -> Vec<u64>;
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
    /// Addresses from the global offset table, or that are numbers: most are of functions that are called.
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
            FlowControl::IndirectBranch => match self.held(&it, &before) {
                Some(Value::Target(table)) => self.jump_by_table(&it, (table, 4), &after, waiting),
                Some(Value::Word(table)) => self.jump_by_table(&it, (table, 8), &after, waiting),
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

    /// To each instruction that a table names: by how far it is from the table, in 4 bytes, or by its address, in 8. It ends where
    /// another begins, or where an entry leads elsewhere.
    fn jump_by_table(
        &mut self,
        it: &Instruction,
        (table, bytes): (u64, usize),
        state: &State,
        waiting: &mut Vec<(usize, State)>,
    ) {
        for entry in (table..).step_by(bytes) {
            if entry != table && self.data.begins(entry) {
                return;
            }
            let target = match bytes {
                4 => self.data.word(entry).map(|word| table.wrapping_add_signed(word.into())),
                _ => self.data.slot(entry),
            };
            let at = target.and_then(|to| self.instructions.binary_search_by_key(&to, Instruction::ip).ok());
            let Some(at) = at else {
                if entry == table {
                    self.leaves = Some(it.ip());
                }
                return;
            };
            waiting.push((at, state.clone()));
        }
    }

    /// Where a call or an indirect jump leads, or else how far from the start of a table the pointer lies, if it is from one.
    fn target(&self, it: &Instruction, state: &State) -> Result<u64, Option<u64>> {
        if it.op0_kind() == OpKind::NearBranch64 {
            return Ok(it.near_branch_target());
        }
        match self.held(it, state) {
            Some(Value::Address(address)) => Ok(address),
            Some(Value::Method(offset)) => Err(Some(offset)),
            _ => Err(None),
        }
    }

    /// What the first operand holds: a register, or memory.
    fn held(&self, it: &Instruction, state: &State) -> Option<Value> {
        match it.op0_kind() {
            OpKind::Register => state.get(it.op0_register()),
            OpKind::Memory => self.loaded(it, state),
            _ => None,
        }
    }

    /// What a memory operand of 64 bits holds.
    fn loaded(&self, it: &Instruction, state: &State) -> Option<Value> {
        if it.is_ip_rel_memory_operand() {
            return self.data.slot(it.ip_rel_memory_address()).map(Value::Address);
        }
        if it.memory_base() == Register::None && it.memory_index_scale() == 8 {
            return Some(Value::Word(it.memory_displacement64()));
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
        self.loaded.extend(self.data.numbers(it));
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
                    let address = self.data.numbers(it).first().copied();
                    Some(address.map_or(Value::Number(it.immediate(1)), Value::Address))
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

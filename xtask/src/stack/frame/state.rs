//! What is known on one path through a function: how deep the stack is, and what registers and the stack hold.

use std::collections::BTreeMap;

use iced_x86::{Instruction, Register};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// So many bytes below the return address.
    Stack(i64),
    Number(u64),
    Address(u64),
    /// A pointer from a table that is not known, so far from its start.
    Method(u64),
    /// What a jump table holds, and the instruction that follows from it.
    Entry(u64),
    Target(u64),
    /// An address from a table of them.
    Word(u64),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub depth: i64,
    registers: BTreeMap<Register, Value>,
    /// By how far below the return address they lie.
    pub aside: BTreeMap<i64, Value>,
    /// What the stack pointer was just compared with: the end of a loop that touches each page of a large frame.
    pub end_of_probes: Option<i64>,
}

impl State {
    pub fn get(&self, register: Register) -> Option<Value> {
        let stack = (register == Register::RSP).then_some(Value::Stack(self.depth));
        stack.or_else(|| self.registers.get(&register).copied())
    }

    pub fn set(&mut self, register: Register, value: Option<Value>) {
        match value {
            Some(value) => self.registers.insert(register, value),
            None => self.registers.remove(&register),
        };
    }

    /// The place of a memory operand in the stack, if it is there and nothing is scaled.
    pub fn position(&self, it: &Instruction) -> Option<i64> {
        match self.get(it.memory_base()) {
            Some(Value::Stack(depth)) if it.memory_index() == Register::None => {
                Some(depth.wrapping_sub(it.memory_displacement64() as i64))
            }
            _ => None,
        }
    }

    /// Takes over what holds on another path to the same instruction: the deeper stack, and what is known on both. `false`
    /// if that is nothing new.
    pub fn join(&mut self, other: &Self) -> bool {
        let before = (self.depth, self.registers.len(), self.aside.len(), self.end_of_probes);
        self.depth = self.depth.max(other.depth);
        self.registers.retain(|register, value| other.registers.get(register) == Some(value));
        self.aside.retain(|position, value| other.aside.get(position) == Some(value));
        self.end_of_probes = self.end_of_probes.filter(|_| self.end_of_probes == other.end_of_probes);
        before != (self.depth, self.registers.len(), self.aside.len(), self.end_of_probes)
    }
}

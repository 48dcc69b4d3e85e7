//! Source-ids that no table knows of, and a caller does.
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU64, Ordering};

use super::scope::{Role, Scope, Target};
use crate::addr::{Requester, SourceId};
use crate::limits::{Carver, Full, List, words_of};

/// How many there can be.
const CAPACITY: usize = 16;

/// They are added one by one while others look, and never taken away.
#[derive(Debug)]
pub(super) struct Aliases<'s>(List<'s, AtomicU64>);

impl<'s> Aliases<'s> {
    pub(super) const WORDS: usize = words_of::<AtomicU64>(CAPACITY);

    pub(super) const fn without_room() -> Self {
        Self(List::without_room())
    }

    pub(super) fn cut(carver: &mut Carver<'s>) -> Result<Self, Full> {
        Ok(Self(carver.each(CAPACITY, |_| Ok(AtomicU64::new(0)))?))
    }

    /// Takes one in, unless it is there.
    pub(super) fn add(&self, function: SourceId, alias: Requester) -> Result<(), Full> {
        let word = pack(function, alias);
        for slot in &self.0 {
            match slot.compare_exchange(0, word, Ordering::Release, Ordering::Acquire) {
                Err(other) if other != word => {}
                _ => return Ok(()),
            }
        }
        Err(Full { what: "aliases", capacity: self.0.len() })
    }

    /// Each as the table would say it.
    pub(super) fn scopes(&self) -> impl Iterator<Item = (Scope, SourceId)> {
        let words = self.0.iter().map(|slot| slot.load(Ordering::Acquire));
        words.take_while(|word| *word != 0).map(unpack)
    }
}

/// Bit 48 says that there is one; below are segment, function and alias, of 16 bits each.
fn pack(function: SourceId, alias: Requester) -> u64 {
    1 << 48 | u64::from(function.segment()) << 32 | u64::from(function.requester()) << 16 | u64::from(alias.get())
}

fn unpack(word: u64) -> (Scope, SourceId) {
    let [segment, function, alias] = [32, 16, 0].map(|shift| (word >> shift) as u16);
    let [source, alias] = [function, alias].map(|requester| SourceId::from_requester(segment, requester));
    (Scope { source, target: Target::Function, role: Role::Alias(alias), offset: 0 }, alias)
}

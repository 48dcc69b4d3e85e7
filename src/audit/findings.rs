//! The differences that an audit finds.
#![forbid(unsafe_code)]

use super::Difference;

/// Who gets each difference, and how many there were.
pub(crate) struct Findings<'a> {
    each: &'a mut dyn FnMut(Difference),
    count: u64,
}

impl<'a> Findings<'a> {
    pub(crate) fn new(each: &'a mut dyn FnMut(Difference)) -> Self {
        Self { each, count: 0 }
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn report(&mut self, difference: Difference) {
        self.count += 1;
        (self.each)(difference);
    }
}

//! How a scenario tells QEMU's trace which call of the driver comes next, without the driver: it writes the call's name
//! to a register that no unit has, and the trace shows the write.

/// Offset in a unit's window that the specification reserves (VT-d 5.10, S 11.4), and that QEMU's unit ignores.
pub const REGISTER: u32 = 0x50;

/// The values to write, in order: the name's bytes, the lowest first, up to a zero.
pub fn words(name: &str) -> impl Iterator<Item = u64> + '_ {
    let mut bytes = name.bytes().map(u64::from).filter(|&byte| byte != 0);
    (0..=name.len() / 8).map(move |_| (0..8).fold(0, |word, index| word | bytes.next().unwrap_or(0) << (8 * index)))
}

/// Puts names together again.
#[derive(Clone, Debug, Default)]
pub struct Reader<S>(S);

impl<S: Default + Extend<char>> Reader<S> {
    /// Takes the next value; gives the name that it ends.
    pub fn take(&mut self, word: u64) -> Option<S> {
        let bytes = word.to_le_bytes();
        let name = bytes.iter().take_while(|&&byte| byte != 0);
        self.0.extend(name.clone().map(|&byte| char::from(byte)));
        (name.count() < bytes.len()).then(|| core::mem::take(&mut self.0))
    }
}

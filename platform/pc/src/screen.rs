//! The screen, as the loader left it: one page of text that stays. Nothing is ever read back from it, and nothing scrolls.

use core::fmt::{self, Write};

use heapless::String;
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};
use spin::Once;
use spin::mutex::SpinMutex;

use crate::boot::{Colours, Picture};
use crate::mmio::Mmio;

const HEIGHT: RasterHeight = RasterHeight::Size16;
const WEIGHT: FontWeight = FontWeight::Regular;
const GLYPH: (u32, u32) = (get_raster_width(WEIGHT, HEIGHT) as u32, HEIGHT.val() as u32);
/// Left free at each side of a picture, in pixels: some screens show no edges.
const MARGIN: u32 = 16;
/// Light grey on black, as the upper byte of a character in text mode.
const ATTRIBUTE: u16 = 0x0700;
/// A page has no more text.
const PAGE: usize = 4096;

static SCREEN: Once<SpinMutex<Screen>> = Once::new();

/// What can be written to.
#[derive(Debug)]
pub(crate) struct Screen {
    picture: Picture,
    memory: Mmio,
}

/// Takes the screen for what [`show`] is given from now on; the first one stays.
pub(crate) fn take(picture: Picture, memory: Mmio) {
    SCREEN.call_once(|| SpinMutex::new(Screen { picture, memory }));
}

/// Lets a report of a crash through, even if it happened in the middle of showing something.
pub(crate) fn break_lock() {
    if let Some(screen) = SCREEN.get().filter(|screen| screen.is_locked()) {
        // SAFETY: what held the lock on this CPU never runs again, and a page that is half shown is no harm.
        unsafe { screen.force_unlock() };
    }
}

/// Shows a page of text in place of what is on the screen, if there is one. Long lines are broken between words; what the screen has no
/// room for is left out.
pub fn show(page: fmt::Arguments<'_>) {
    let Some(screen) = SCREEN.get() else { return };
    let mut text = Cut(String::new());
    // Never fails: what is too long is cut.
    let _ = text.write_fmt(page);
    screen.lock().show(&text.0);
}

/// Takes as much as a page has room for.
struct Cut(String<PAGE>);

impl Write for Cut {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().for_each(|character| drop(self.0.push(character)));
        Ok(())
    }
}

impl Screen {
    fn show(&self, text: &str) {
        let Picture { width, height, .. } = self.picture;
        match self.picture.colours {
            None => {
                let (columns, rows) = (width, height);
                (0..columns.saturating_mul(rows)).for_each(|cell| self.memory.write16(u64::from(cell) * 2, ATTRIBUTE));
                for (row, line) in (0..rows).zip(lines(text, columns as usize)) {
                    for (column, character) in (0..columns).zip(line.chars()) {
                        let byte = if character.is_ascii() { character as u16 } else { b'?'.into() };
                        self.memory.write16(u64::from(row * columns + column) * 2, ATTRIBUTE | byte);
                    }
                }
            }
            Some(colours) => {
                let all = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
                all.for_each(|(x, y)| self.pixel(x, y, 0));
                let inner = |all: u32, glyph: u32| all.saturating_sub(2 * MARGIN) / glyph;
                let (columns, rows) = (inner(width, GLYPH.0), inner(height, GLYPH.1));
                for (row, line) in (0..rows).zip(lines(text, columns as usize)) {
                    for (column, character) in (0..columns).zip(line.chars()) {
                        self.glyph(MARGIN + column * GLYPH.0, MARGIN + row * GLYPH.1, character, colours);
                    }
                }
            }
        }
    }

    fn glyph(&self, left: u32, top: u32, character: char, colours: Colours) {
        let raster = get_raster(character, WEIGHT, HEIGHT).or_else(|| get_raster('?', WEIGHT, HEIGHT));
        let Some(raster) = raster else { return };
        for (y, row) in (top..).zip(raster.rows()) {
            for (x, grey) in (left..).zip(row) {
                self.pixel(x, y, colours.grey(*grey));
            }
        }
    }

    fn pixel(&self, x: u32, y: u32, value: u32) {
        let Picture { pitch, bytes_a_pixel, .. } = self.picture;
        let at = u64::from(y) * u64::from(pitch) + u64::from(x) * u64::from(bytes_a_pixel);
        match bytes_a_pixel {
            4 => self.memory.write32(at, value),
            2 => self.memory.write16(at, value as u16),
            _ => (0..3).for_each(|byte| self.memory.write8(at + byte, (value >> (8 * byte)) as u8)),
        }
    }
}

/// The lines of a text, the long ones in parts of at most `columns` characters, broken behind a space where there is one.
fn lines(text: &str, columns: usize) -> impl Iterator<Item = &str> {
    text.lines().flat_map(move |line| {
        let mut rest = Some(line);
        core::iter::from_fn(move || {
            let line = rest?;
            let Some((end, _)) = line.char_indices().nth(columns) else { return rest.take() };
            let end = line.get(..end)?.rfind(' ').map_or(end, |space| space + 1).max(1);
            let (part, left) = line.split_at_checked(end)?;
            rest = Some(left);
            Some(part)
        })
    })
}

#[cfg(test)]
mod tests {
    use core::ptr::NonNull;

    use super::*;

    #[test]
    fn long_lines_are_broken_between_words() {
        let broken = |text, columns| Vec::from_iter(lines(text, columns));
        assert_eq!(broken("one two three\n\nfour", 8), ["one two ", "three", "", "four"]);
        assert_eq!(broken("abcdefghij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(broken("", 4), [""; 0]);
        // A screen without room shows nothing, and does not hang.
        assert!(lines("ab cd", 0).take(3).count() <= 3);
    }

    fn screen(memory: &mut [u64], picture: Picture) -> Screen {
        let bytes = size_of_val(memory) as u64;
        // SAFETY: the words stand for the screen's memory.
        Screen { picture, memory: unsafe { Mmio::new(NonNull::from(memory).cast(), bytes) } }
    }

    #[test]
    fn text_mode_gets_characters() {
        let mut memory = [u64::MAX; 10];
        let picture = Picture { at: 0, pitch: 20, width: 10, height: 2, bytes_a_pixel: 2, colours: None };
        screen(&mut memory, picture).show("ab \u{e9}\nc");
        let cells = Vec::from_iter(memory.iter().take(10).flat_map(|word| word.to_le_bytes()));
        let text = Vec::from_iter(cells.chunks(2).take(20).map(|cell| cell[0]));
        assert_eq!(text, *b"ab ?\0\0\0\0\0\0c\0\0\0\0\0\0\0\0\0");
        assert!(cells.chunks(2).take(20).all(|cell| cell[1] == 7));
    }

    #[test]
    fn a_picture_gets_glyphs_within_its_bounds_whatever_its_format() {
        for (bytes_a_pixel, colours) in [
            (4, Colours { red: (16, 8), green: (8, 8), blue: (0, 8) }),
            (3, Colours { red: (16, 8), green: (8, 8), blue: (0, 8) }),
            (2, Colours { red: (11, 5), green: (5, 6), blue: (0, 5) }),
        ] {
            let (width, height) = (MARGIN * 2 + GLYPH.0 * 2, MARGIN * 2 + GLYPH.1);
            let pitch = (width * u32::from(bytes_a_pixel)).next_multiple_of(8);
            let mut memory = vec![u64::MAX; (pitch * height / 8) as usize];
            let picture = Picture { at: 0, pitch, width, height, bytes_a_pixel, colours: Some(colours) };
            screen(&mut memory, picture).show("#\u{e9} and much more\nthat has no room");
            let bytes = Vec::from_iter(memory.iter().flat_map(|word| word.to_le_bytes()));
            let pixel = |x: u32, y: u32| {
                let at = (y * pitch + x * u32::from(bytes_a_pixel)) as usize;
                bytes[at..at + usize::from(bytes_a_pixel)]
                    .iter()
                    .rev()
                    .fold(0_u32, |all, byte| all << 8 | u32::from(*byte))
            };
            let lit = |(x, y): &(u32, u32)| pixel(*x, *y) != 0;
            let all = || (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
            let is_inner =
                |(x, y): &(u32, u32)| (MARGIN..width - MARGIN).contains(x) && (MARGIN..height - MARGIN).contains(y);
            assert!(all().filter(lit).count() > 20 && all().filter(lit).all(|at| is_inner(&at)), "{bytes_a_pixel}");
        }
    }
}

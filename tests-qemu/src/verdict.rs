//! What a board is fit for, and why not for more.

use core::fmt;

use heapless::Vec;

use crate::Words;

/// So many limits are kept in words; what is over is counted.
const KEPT: usize = 24;

/// Fit for partitioning, until something is found that limits it or stands in its way.
#[derive(Debug, Default)]
pub struct Verdict {
    limits: Vec<Words, KEPT>,
    more: u32,
    unfit: Option<Words>,
}

impl Verdict {
    /// Something limits what cells can have: what, and what to change in set-up or configuration.
    pub fn limit(&mut self, what: fmt::Arguments<'_>) {
        if self.limits.push(Words::new(what)).is_err() {
            self.more += 1;
        }
    }

    /// The board cannot be partitioned: why, and what to change. The first reason stays.
    pub fn unfit(&mut self, why: fmt::Arguments<'_>) {
        self.unfit.get_or_insert_with(|| Words::new(why));
    }

    /// Why the board cannot be partitioned; `None` if it can.
    pub fn why_unfit(&self) -> Option<&str> {
        self.unfit.as_ref().map(Words::as_str)
    }

    /// The limits that are kept in words.
    pub fn limits(&self) -> impl Iterator<Item = &str> {
        self.limits.iter().map(Words::as_str)
    }

    /// How many limits there are.
    pub fn limit_count(&self) -> u32 {
        self.limits.len() as u32 + self.more
    }

    /// True if nothing stands in the way.
    pub fn is_fit(&self) -> bool {
        self.unfit.is_none()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.limit_count();
        match &self.unfit {
            Some(why) => writeln!(f, "VERDICT: not fit for partitioning: {}", why.as_str())?,
            None if count == 0 => writeln!(f, "VERDICT: fit for partitioning")?,
            None => writeln!(f, "VERDICT: fit for partitioning, with limits: {count}")?,
        }
        self.limits.iter().try_for_each(|limit| writeln!(f, "  - {}", limit.as_str()))?;
        if self.more != 0 {
            writeln!(f, "  - and {} more", self.more)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::format;
    use std::string::ToString;

    use super::*;

    #[test]
    fn a_board_is_fit_until_something_is_found() {
        let mut verdict = Verdict::default();
        assert_eq!(verdict.to_string(), "VERDICT: fit for partitioning\n");
        verdict.limit(format_args!("no snoop control: cells are not coherent"));
        assert_eq!(
            verdict.to_string(),
            "VERDICT: fit for partitioning, with limits: 1\n  - no snoop control: cells are not coherent\n"
        );
        verdict.unfit(format_args!("no table: switch it on"));
        verdict.unfit(format_args!("another"));
        assert_eq!((verdict.is_fit(), verdict.why_unfit()), (false, Some("no table: switch it on")));
        assert!(verdict.to_string().starts_with("VERDICT: not fit for partitioning: no table: switch it on\n  - no"));
    }

    #[test]
    fn what_is_not_kept_is_counted() {
        let mut verdict = Verdict::default();
        (0..KEPT + 3).for_each(|number| verdict.limit(format_args!("limit {number}")));
        assert_eq!((verdict.limits().count(), verdict.limit_count()), (KEPT, KEPT as u32 + 3));
        let text = verdict.to_string();
        assert!(text.starts_with("VERDICT: fit for partitioning, with limits: 27\n  - limit 0\n"), "{text}");
        assert!(text.ends_with(&format!("  - limit {}\n  - and 3 more\n", KEPT - 1)), "{text}");
    }
}

use cofferdam::limits::{Limits, Memory};

use crate::{any, show};

pub(super) fn calls() {
    show(Limits::default());
    show((any::<Limits>().words(), any::<Limits>().flaw()));
    show(Memory::<8>::new());
    show(any::<Memory<8>>().take());
}

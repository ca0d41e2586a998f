//! The latch that falls when the store can no longer promise durability.

use std::sync::atomic::{AtomicBool, Ordering};

/// Falls once and stays down until the process opens the store again: after a failed sync nobody knows which
/// of the earlier writes the kernel dropped, so a later success would prove nothing.
#[derive(Debug, Default)]
pub struct WriteLatch(AtomicBool);

impl WriteLatch {
    /// Lets it fall.
    pub fn fall(&self) {
        if !self.0.swap(true, Ordering::SeqCst) {
            tracing::error!("the store refuses further writes until it is opened again");
        }
    }

    /// Whether writes are refused.
    pub fn has_fallen(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

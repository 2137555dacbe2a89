//! The x86-64 backend of softbpf: where machine code will be made, and where `unsafe` is at home.
//!
//! It is not written yet. What the crate can honestly do is say so, in a form that callers who offer a choice of
//! engines can show: [`engine`] refuses with the reason.

use softbpf::engine::Engine;

/// Why there is no JIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// This version of softbpf has none.
    #[error("this version of softbpf has no JIT yet; use the interpreter")]
    NotWritten,
}

/// A JIT for this machine.
///
/// # Errors
/// Always: [`Unavailable::NotWritten`].
pub fn engine() -> Result<Box<dyn Engine>, Unavailable> {
    Err(Unavailable::NotWritten)
}

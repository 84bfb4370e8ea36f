//! What a request can be wrong in, what a server puts up with, and what it was told about a request beside the message itself.

mod limits;
mod refusal;

pub use limits::Limits;
pub use refusal::Refusal;

//! The outputs that transcripts do not show.

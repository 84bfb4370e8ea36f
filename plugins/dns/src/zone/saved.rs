//! A zone as bytes, for another version of this plugin.

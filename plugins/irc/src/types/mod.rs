//! What IRC is made of, as types: names, commands and replies. An invalid one cannot be built.
//!
//! All text is bytes. RFC 2812 fixes no character set, so a server that insists on UTF-8 damages what it relays.

pub mod text;

pub mod name;

pub mod mode;

pub mod command;

pub mod reply;

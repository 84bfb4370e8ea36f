//! Master files ([RFC 1035 section 5](https://www.rfc-editor.org/rfc/rfc1035#section-5)): `$ORIGIN`, `$INCLUDE`, `$TTL` ([RFC 2308](https://www.rfc-editor.org/rfc/rfc2308#section-4)), BIND's `$GENERATE`.
//!
//! The parser has no files: it is fed bytes, and says when it wants more or another file. So a zone loads piece by piece, between queries.
//!
//! ```
//! use nethost_dns::{types::Name, zonefile::{Parser, Step}};
//!
//! let mut parser = Parser::new("example.com.zone", Name::parse("example.com").unwrap());
//! parser.feed(b"$TTL 1h\n@ SOA ns hostmaster 1 1d 2h 4w 1h\n");
//! parser.feed_end();
//! let Ok(Step::Record(soa)) = parser.step() else { panic!() };
//! assert_eq!((soa.owner.to_string().as_str(), soa.ttl), ("example.com.", 3600));
//! assert!(matches!(parser.step(), Ok(Step::End)));
//! ```

mod generate;
mod lexer;
mod parser;

pub use parser::{FileError, MAX_ENTRY, MAX_INCLUDES, Parser, Reason, Record, Step};

#[cfg(test)]
mod tests;

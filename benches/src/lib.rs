//! Nothing but the doc tests of docs/PORTING.md, which need the crates that people come from.

#[cfg(doctest)]
#[doc = include_str!("../../docs/PORTING.md")]
struct Porting;

//! Logging with defmt: the image carries numbers, xtask has the texts.
//!
//! Code logs with `crate::log::info!` and the like, and never with defmt's macros directly. With the crate's feature
//! `defmt`, which boards turn on, these are defmt's own. Without it, on the host, where nothing would take the messages
//! and no symbol for them exists at link time, they check that their arguments exist and do nothing; so tests and model
//! checkers run the same source without a logger. A type that is logged derives `defmt::Format` under the feature:
//! `#[cfg_attr(feature = "defmt", derive(defmt::Format))]`. A crate that uses the macros depends on defmt itself,
//! because they name it, and passes its own feature `defmt` on to `hv-core/defmt`.
//!
//! ```text
//! info! --> Logger (one message at a time, encoded) --> LogRing (whole messages) --drain--> console, stream 1
//! ```
//!
//! A message never waits for the port. Whoever looks after the console calls [`LogRing::drain`]; when the ring is full the
//! newest messages are dropped, whole, and counted. The board declares the global logger, which takes `unsafe`
//! that this crate may not have, in terms of `Logger`'s safe methods.

#[cfg(feature = "defmt")]
mod logger;
#[cfg(not(any(loom, shuttle)))]
mod ring;

#[cfg(feature = "defmt")]
pub use defmt::{debug, error, info, trace, warn};
#[cfg(feature = "defmt")]
pub use logger::Logger;
#[cfg(not(any(loom, shuttle)))]
pub use ring::{LogRing, MESSAGE_MAX};

/// Stands for all of defmt's macros where there is no logger.
#[cfg(not(feature = "defmt"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __log_nothing {
    ($text:literal $(, $argument:expr)* $(,)?) => {{
        $(let _unlogged = &$argument;)*
    }};
}

#[cfg(not(feature = "defmt"))]
pub use crate::{
    __log_nothing as debug, __log_nothing as error, __log_nothing as info, __log_nothing as trace,
    __log_nothing as warn,
};

#[cfg(all(test, not(feature = "defmt")))]
mod tests {
    /// Without a logger a message costs nothing, but its arguments must exist and are still theirs.
    #[test]
    fn without_a_logger_arguments_are_only_borrowed() {
        let text = alloc::string::String::from("x");
        crate::log::info!("vm {=str} has {=u64} frames", text.as_str(), 1_u64);
        crate::log::warn!("nothing");
        drop(text);
    }
}

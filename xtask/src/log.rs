//! Decodes Trivet's log (defmt) with the help of the image that wrote it: message, file and line.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use defmt_decoder::{DecodeError, Locations, StreamDecoder, Table};

use crate::workspace;

/// Turns log bytes into lines.
pub struct Log(Option<Decoder>);

struct Decoder {
    stream: Box<dyn StreamDecoder + Send + Sync>,
    locations: Locations,
}

impl Log {
    /// A decoder for the log of `image`.
    pub fn of(image: &Path) -> Result<Self> {
        let elf = std::fs::read(image).with_context(|| format!("cannot read {}", image.display()))?;
        let parsed = Table::parse(&elf).with_context(|| format!("cannot read the messages in {}", image.display()))?;
        let Some(table) = parsed else { return Ok(Self::none()) };
        let locations = table.get_locations(&elf).unwrap_or_default();
        // The stream decoder borrows the table; both live as long as this short process.
        let table: &'static Table = Box::leak(Box::new(table));
        Ok(Self(Some(Decoder { stream: table.new_stream_decoder(), locations })))
    }

    /// A decoder of nothing, for images without messages.
    pub fn none() -> Self {
        Self(None)
    }

    /// Takes log bytes, returns the lines that are complete.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<String> {
        let Some(decoder) = &mut self.0 else { return Vec::new() };
        let mut lines = Vec::new();
        decoder.stream.received(bytes);
        loop {
            match decoder.stream.decode() {
                Ok(frame) => {
                    let mut line = String::new();
                    // Writing to a string cannot fail.
                    if let Some(time) = frame.display_timestamp() {
                        let _written = write!(line, "{time} ");
                    }
                    let level = frame.level().map_or("-", |level| level.as_str());
                    let _written = write!(line, "{level} {}", frame.display_message());
                    if let Some(at) = decoder.locations.get(&frame.index()) {
                        let file = at.file.strip_prefix(workspace::root()).unwrap_or(&at.file);
                        let _written = write!(line, " ({}:{})", file.display(), at.line);
                    }
                    lines.push(line);
                }
                Err(DecodeError::Malformed) => lines.push("(a log message was damaged)".to_owned()),
                Err(DecodeError::UnexpectedEof) => return lines,
            }
        }
    }
}

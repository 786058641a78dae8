//! The next file, made ready while the one before is being written.
//!
//! It is a spare like one that was in use before: nobody reads it, and at a crash it stays one, however far it was filled.

use std::sync::Arc;

use sonata_disk::{File, Open};

use crate::error::Error;
use crate::tail::{self, Kind, Place};

/// Filled by one step, which the device then has: whoever else waits for it waits for little more than these.
const STEP_BYTES: u64 = 512 << 10;

/// A spare that is being filled with zeros.
#[derive(Debug)]
pub(crate) struct Ahead {
    place: Place,
    pub(crate) number: u64,
    name: String,
    file: Arc<dyn File>,
    filled: u64,
}

impl Ahead {
    pub(crate) fn begin(place: Place, number: u64) -> Result<Self, Error> {
        let name = place.name(number, Kind::Spare);
        let file = place.disk.open(&name, Open::New).map_err(Error::io("open", &name))?;
        Ok(Self { place, number, name, file, filled: 0 })
    }

    /// Fills a little; whether the file is whole and durable now.
    pub(crate) fn step(&mut self) -> Result<bool, Error> {
        let from = self.filled;
        let target = (from + STEP_BYTES).min(self.place.options.file_bytes);
        self.filled = tail::fill(&*self.file, &self.name, from, target)?;
        self.file.write_out(from, self.filled - from).map_err(Error::io("fill", &self.name))?;
        let whole = self.filled == self.place.options.file_bytes;
        if whole {
            self.file.sync().map_err(Error::io("sync", &self.name))?;
        }
        Ok(whole)
    }

    /// Gives the room back.
    pub(crate) fn give_up(&self) {
        let _ = self.place.disk.remove(&self.name);
    }
}

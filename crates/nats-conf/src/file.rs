//! Reading the small files of a configuration, with a bound, into memory that is wiped.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use zeroize::Zeroizing;

use crate::error::Problem;

/// Bytes of a certificate, key, credentials or configuration file. Arbitrary; the public bundles of all
/// certificate authorities are a quarter of it.
pub(crate) const FILE_BYTES_MAX: usize = 1 << 20;

/// The whole file.
pub(crate) fn bytes(path: &Path) -> Result<Zeroizing<Vec<u8>>, Problem> {
    let file = File::open(path).map_err(Problem::Unreadable)?;
    let length = file.metadata().map_err(Problem::Unreadable)?.len();
    // The whole capacity first: a vector that grows leaves copies behind that nobody wipes.
    let capacity = usize::try_from(length).unwrap_or(usize::MAX).min(FILE_BYTES_MAX) + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
    let limit = u64::try_from(FILE_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit).read_to_end(&mut bytes).map_err(Problem::Unreadable)?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(Problem::TooLarge { bytes_max: FILE_BYTES_MAX });
    }
    Ok(bytes)
}

/// The whole file as text.
pub(crate) fn text(path: &Path) -> Result<Zeroizing<String>, Problem> {
    let bytes = bytes(path)?;
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err(Problem::Unreadable(io::Error::new(io::ErrorKind::InvalidData, "not a text file"))),
    }
}

//! `sync_file_range(2)`, which no safe interface offers.
#![cfg_attr(
    target_os = "linux",
    expect(unsafe_code, reason = "a system call on a descriptor that is borrowed meanwhile")
)]

use std::fs::File;
use std::io;

/// Starts writing a range of the file to the device, and waits until all of that has been taken. Where the file system or
/// a sandbox does not know the call, the next sync does all of it.
#[cfg(target_os = "linux")]
pub(crate) fn write_out(file: &File, offset: u64, length: u64) -> io::Result<()> {
    use std::os::fd::AsRawFd;

    const ALL: libc::c_uint =
        libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    let (Ok(offset), Ok(length)) = (i64::try_from(offset), i64::try_from(length)) else {
        return Err(io::ErrorKind::FileTooLarge.into());
    };
    // No memory of ours is passed, and the descriptor is open for as long as the file is borrowed.
    let result = unsafe { libc::sync_file_range(file.as_raw_fd(), offset, length, ALL) };
    if result == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ENOSYS | libc::EOPNOTSUPP | libc::EINVAL | libc::ESPIPE | libc::EPERM) => Ok(()),
        _ => Err(error),
    }
}

/// There is no such call.
#[cfg(not(target_os = "linux"))]
pub(crate) fn write_out(_file: &File, _offset: u64, _length: u64) -> io::Result<()> {
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn what_cannot_be_written_out_is_left_to_the_sync() {
        let file = File::options().write(true).open("/dev/null").unwrap();
        assert!(write_out(&file, 0, 4096).is_ok());
        assert!(write_out(&file, u64::MAX, 1).is_err());
    }
}

//! `sync_file_range(2)`, which no safe interface offers.
#![cfg_attr(
    target_os = "linux",
    expect(unsafe_code, reason = "a system call on a descriptor that is borrowed meanwhile")
)]

use std::fs::File;
use std::io;

/// Starts writing a range of the file to the device, and waits until all of that has been taken.
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
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Without the call the next sync does all of it.
#[cfg(not(target_os = "linux"))]
pub(crate) fn write_out(_file: &File, _offset: u64, _length: u64) -> io::Result<()> {
    Ok(())
}

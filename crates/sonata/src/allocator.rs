//! The program's allocator, and when it gives memory back.
#![expect(unsafe_code, reason = "mimalloc offers no safe call to give memory back")]

use std::io;
use std::thread;
use std::time::Duration;

// As fast as glibc's in our measurements; musl's, for static builds, is several times slower under threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How often free memory is given back: often enough that nobody takes an idle server for a leaking one, seldom enough to
/// cost a busy one nothing that can be measured.
const GIVE_BACK_EVERY: Duration = Duration::from_secs(5);

/// Has memory that is free given back to the system every few seconds, for as long as the process lives. Threads see to that
/// themselves only when they ask for more, so an idle server would keep what its busiest moment needed.
///
/// # Errors
/// When there is no thread to be had.
pub(crate) fn give_back_regularly() -> io::Result<()> {
    let give_back = || {
        loop {
            thread::sleep(GIVE_BACK_EVERY);
            // SAFETY: it takes no pointer, frees nothing that is in use, and may be called by any thread at any time.
            unsafe { libmimalloc_sys::mi_collect(true) };
        }
    };
    thread::Builder::new().name("allocator".to_owned()).spawn(give_back).map(drop)
}

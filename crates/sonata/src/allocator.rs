//! The program's allocator, and when it gives memory back.
#![expect(unsafe_code, reason = "mimalloc offers no safe calls to give memory back")]

use std::ffi::c_long;
use std::io;
use std::thread;
use std::time::Duration;

// As fast as glibc's in our measurements; musl's, for static builds, is several times slower under threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How often free memory is given back: often enough that nobody takes an idle server for a leaking one, seldom enough to
/// cost a busy one nothing that can be measured.
const GIVE_BACK_EVERY: Duration = Duration::from_secs(5);

/// mimalloc's `mi_option_arena_max_object_size`, in KiB: what is larger is not cut from the one great reserve, but
/// asked of the system by itself. The crate has no name for it.
const ARENA_OBJECT_KIB_MAX: libmimalloc_sys::mi_option_t = 45;

/// What that is when nobody has changed it. Anything else is the operator's wish (`MIMALLOC_ARENA_MAX_OBJECT_SIZE`)
/// or the option of another version of mimalloc, and left as it is.
const ARENA_OBJECT_KIB_DEFAULT: c_long = 2 << 20;

/// What it is here: less than the 4 MiB that blocks of 64 to 512 KiB of one size share. Those cut from the reserve
/// are often made of memory that was in use a moment ago, and what of it is never handed out again is not given back
/// as long as one block is in use: a dozen journal and socket buffers kept 40 MiB of a load. Yet more than messages
/// take (1 MiB, unless configured): those should not be asked of the system one by one.
const OBJECT_KIB_MAX: c_long = 3 << 10;

/// Has memory that is free given back to the system every few seconds, for as long as the process lives. Threads see
/// to that themselves only when they ask for more, so an idle server would keep what its busiest moment needed.
///
/// # Errors
/// When there is no thread to be had.
pub(crate) fn give_back_regularly() -> io::Result<()> {
    if has_default() {
        // SAFETY: it takes no pointer, and any number may be given for any option.
        unsafe { libmimalloc_sys::mi_option_set(ARENA_OBJECT_KIB_MAX, OBJECT_KIB_MAX) };
    }
    let give_back = || {
        loop {
            thread::sleep(GIVE_BACK_EVERY);
            // SAFETY: it takes no pointer, frees nothing that is in use, and may be called by any thread at any time.
            unsafe { libmimalloc_sys::mi_collect(true) };
        }
    };
    thread::Builder::new().name("allocator".to_owned()).spawn(give_back).map(drop)
}

fn has_default() -> bool {
    // SAFETY: it takes no pointer, and any number may be asked for.
    unsafe { libmimalloc_sys::mi_option_get(ARENA_OBJECT_KIB_MAX) == ARENA_OBJECT_KIB_DEFAULT }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The option has no name here, so a new version of mimalloc may mean another by its number.
    #[test]
    #[cfg(target_pointer_width = "64")]
    fn the_option_is_the_one_that_is_meant() {
        assert!(has_default());
    }
}

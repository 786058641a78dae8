//! Buffers for outbound bytes, lent and taken back.
//!
//! A buffer is used for as long as bytes wait to be written, which is nearly always less than a batch. Lending
//! fixed sizes from a stack keeps the same few warm buffers going round instead of freeing and faulting in pages.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

/// The sizes that are kept. The first suits a control line or a few small messages; the third a message of 64 KiB with
/// its line; the last what one read batch of a publisher becomes.
const CLASS_BYTES: [usize; 4] = [1024, 8 * 1024, 72 * 1024, 320 * 1024];

/// How many bytes of unused buffers are kept per size; beyond it they are freed. Enough for the receivers of a wide
/// fan-out, small beside what such a server uses anyway.
const KEPT_BYTES_PER_CLASS: usize = 8 * 1024 * 1024;

/// A size of the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Class(u8);

impl Class {
    /// The smallest size.
    pub const SMALLEST: Self = Self(0);

    /// The smallest size that holds `bytes`; `None` when no size does.
    pub fn holding(bytes: usize) -> Option<Self> {
        CLASS_BYTES.iter().position(|size| bytes <= *size).map(|class| Self(class as u8))
    }

    /// The largest size that is not larger than `bytes`, or the smallest.
    pub fn filled_by(bytes: usize) -> Self {
        Self(CLASS_BYTES.iter().rposition(|size| *size <= bytes).unwrap_or(0) as u8)
    }

    /// The next size up; the largest stays.
    pub fn next(self) -> Self {
        Self((self.0 + 1).min(CLASS_BYTES.len() as u8 - 1))
    }

    fn bytes(self) -> usize {
        CLASS_BYTES[usize::from(self.0)]
    }
}

/// The buffers of one server. A buffer is always fully initialised, so appending is copying into a slice.
#[derive(Debug, Default)]
pub struct BufferPool {
    classes: [Mutex<Vec<Box<[u8]>>>; CLASS_BYTES.len()],
    kept_bytes: AtomicUsize,
}

impl BufferPool {
    /// A buffer of the size.
    pub fn take(&self, class: Class) -> Box<[u8]> {
        let kept = self.classes[usize::from(class.0)].lock().pop();
        match kept {
            Some(buffer) => {
                self.kept_bytes.fetch_sub(buffer.len(), Ordering::Relaxed);
                buffer
            }
            None => vec![0; class.bytes()].into_boxed_slice(),
        }
    }

    /// Takes a buffer back, for the next one. Buffers of other sizes, and more than are worth keeping, are freed.
    pub fn give(&self, buffer: Box<[u8]>) {
        let Some(class) = CLASS_BYTES.iter().position(|size| *size == buffer.len()) else { return };
        let mut kept = self.classes[class].lock();
        if (kept.len() + 1) * buffer.len() <= KEPT_BYTES_PER_CLASS {
            self.kept_bytes.fetch_add(buffer.len(), Ordering::Relaxed);
            kept.push(buffer);
        }
    }

    /// Frees half of the unused buffers of each size. To be called now and then when a server has gone quiet.
    pub fn shrink(&self) {
        for class in &self.classes {
            let mut kept = class.lock();
            let keep = kept.len() / 2;
            let freed: usize = kept.drain(keep..).map(|buffer| buffer.len()).sum();
            if keep == 0 {
                kept.shrink_to_fit();
            }
            self.kept_bytes.fetch_sub(freed, Ordering::Relaxed);
        }
    }

    /// Bytes of unused buffers.
    pub fn kept_bytes(&self) -> usize {
        self.kept_bytes.load(Ordering::Relaxed)
    }
}

/// A copy of `bytes` that can be shared; its buffer goes back to the pool with the last share.
pub fn shared_copy(pool: &Arc<BufferPool>, bytes: &[u8]) -> Bytes {
    let Some(class) = Class::holding(bytes.len()) else { return Bytes::copy_from_slice(bytes) };
    let mut buffer = pool.take(class);
    buffer[..bytes.len()].copy_from_slice(bytes);
    Bytes::from_owner(Lent { buffer, length: bytes.len(), pool: pool.clone() })
}

struct Lent {
    buffer: Box<[u8]>,
    length: usize,
    pool: Arc<BufferPool>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.pool.give(std::mem::take(&mut self.buffer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_and_odd_sizes_do_not() {
        let pool = BufferPool::default();
        let class = Class::holding(5000).unwrap();
        let buffer = pool.take(class);
        assert_eq!(buffer.len(), 8 * 1024);
        pool.give(buffer);
        assert_eq!(pool.kept_bytes(), 8 * 1024);
        pool.give(vec![0; 77].into());
        assert_eq!(pool.kept_bytes(), 8 * 1024);
        pool.take(class);
        assert_eq!(pool.kept_bytes(), 0);
        assert_eq!(Class::holding(1 << 30), None);
    }

    #[test]
    fn the_last_share_gives_the_buffer_back() {
        let pool = Arc::new(BufferPool::default());
        let payload = vec![7; 65_538];
        let one = shared_copy(&pool, &payload);
        let two = one.slice(3..);
        drop(one);
        assert_eq!((pool.kept_bytes(), two.len()), (0, 65_535));
        drop(two);
        assert_eq!(pool.kept_bytes(), 72 * 1024);
        assert_eq!(shared_copy(&pool, &[1; 1_000_000]).len(), 1_000_000);
    }

    #[test]
    fn kept_bytes_are_bounded_and_shrink_to_nothing() {
        let pool = BufferPool::default();
        let class = Class::holding(300 * 1024).unwrap();
        let taken: Vec<_> = (0..100).map(|_| pool.take(class)).collect();
        taken.into_iter().for_each(|buffer| pool.give(buffer));
        assert!(pool.kept_bytes() <= KEPT_BYTES_PER_CLASS);
        (0..10).for_each(|_| pool.shrink());
        assert_eq!(pool.kept_bytes(), 0);
    }
}

//! The host: one folder of it.

mod write_out;

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::{Disk, Entry, File, Open, name};
use write_out::write_out;

/// A folder of the host.
///
/// Names are checked, so nothing outside of the folder is reached by a name; links inside of it are followed.
#[derive(Debug)]
pub struct Real {
    root: PathBuf,
}

impl Real {
    /// The disk in `root`, which is created if it does not exist.
    ///
    /// # Errors
    /// As the operating system says, also when `root` is not a folder.
    pub fn new(root: &Path) -> io::Result<Self> {
        fs::create_dir_all(root)?;
        Ok(Self { root: root.to_owned() })
    }

    fn path(&self, name: &str) -> io::Result<PathBuf> {
        name::check(name)?;
        Ok(self.root.join(name))
    }

    fn folder_path(&self, folder: &str) -> io::Result<PathBuf> {
        name::check_folder(folder)?;
        Ok(self.root.join(folder))
    }
}

impl Disk for Real {
    fn open(&self, name: &str, how: Open) -> io::Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create(how == Open::Either).create_new(how == Open::New);
        Ok(Arc::new(RealFile(options.open(self.path(name)?)?)))
    }

    fn list(&self, folder: &str) -> io::Result<Vec<Entry>> {
        let path = self.folder_path(folder)?;
        let mut entries = Vec::new();
        if let Some(found) = unless_missing(fs::read_dir(path))? {
            for entry in found {
                let entry = entry?;
                // We write no names that are not text; somebody else's are not ours to list.
                let Ok(name) = entry.file_name().into_string() else { continue };
                entries.push(Entry { name, folder: entry.file_type()?.is_dir() });
            }
        }
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn create_folder(&self, folder: &str) -> io::Result<()> {
        fs::create_dir_all(self.folder_path(folder)?)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from)?, self.path(to)?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        unless_missing(fs::remove_file(self.path(name)?)).map(|_| ())
    }

    fn remove_folder(&self, folder: &str) -> io::Result<()> {
        unless_missing(fs::remove_dir_all(self.path(folder)?)).map(|_| ())
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        fs::File::open(self.folder_path(folder)?)?.sync_all()
    }
}

fn unless_missing<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[derive(Debug)]
struct RealFile(fs::File);

impl File for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write_out(&self, offset: u64, length: u64) -> io::Result<()> {
        write_out(&self.0, offset, length)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
}

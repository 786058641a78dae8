//! Files of the host: configuration, pid file, ports file.

use std::io;
use std::path::{Path, PathBuf};

use sonata_conf::options::Options;
use sonata_conf::source::Source;

use crate::inner::Bound;
use crate::server::StartError;

/// The host's files and environment.
#[derive(Debug, Clone, Copy)]
pub struct Disk;

impl Source for Disk {
    fn read(&self, path: &Path) -> io::Result<String> {
        std::fs::read_to_string(path)
    }

    fn env(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

pub(crate) fn write_pid_file(options: &Options) -> Result<(), StartError> {
    let Some(path) = &options.pid_file else { return Ok(()) };
    std::fs::write(path, std::process::id().to_string())
        .map_err(|error| StartError::File(path.clone(), error))
}

pub(crate) fn remove_pid_file(options: &Options) {
    if let Some(path) = &options.pid_file {
        // Gone already is as good.
        let _ = std::fs::remove_file(path);
    }
}

/// `<dir>/<program>_<pid>.ports`: one JSON object of lists of URLs by listener.
pub(crate) fn write_ports_file(options: &Options, bound: &Bound) -> Result<(), StartError> {
    let Some(path) = ports_file(options) else { return Ok(()) };
    let scheme = if options.tls.is_some() { "tls" } else { "nats" };
    let mut fields = Vec::new();
    if let Some(address) = bound.clients {
        fields.push(format!("\"nats\":[\"{scheme}://{address}\"]"));
    }
    let monitoring: Vec<String> = [("http", bound.http), ("https", bound.https)]
        .into_iter()
        .filter_map(|(scheme, address)| Some(format!("\"{scheme}://{}\"", address?)))
        .collect();
    if !monitoring.is_empty() {
        fields.push(format!("\"monitoring\":[{}]", monitoring.join(",")));
    }
    std::fs::write(&path, format!("{{{}}}", fields.join(","))).map_err(|error| StartError::File(path, error))
}

pub(crate) fn remove_ports_file(options: &Options) {
    if let Some(path) = ports_file(options) {
        let _ = std::fs::remove_file(path);
    }
}

fn ports_file(options: &Options) -> Option<PathBuf> {
    let folder = options.ports_file_dir.as_ref()?;
    let program = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    let program = program.file_name().unwrap_or("nats-server".as_ref()).to_string_lossy().into_owned();
    Some(folder.join(format!("{program}_{}.ports", std::process::id())))
}

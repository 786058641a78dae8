//! Plays the scripts, several at a time, and either compares the transcripts with the recorded ones or records them.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::arguments::{Options, Purpose, matches};
use crate::divergence::Divergences;
use crate::error::WireError;
use crate::pki::Pki;
use crate::play;
use crate::script::Script;

/// What the judge found, by count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Scripts answered as expected, or recorded.
    pub passed: usize,
    /// Scripts answered otherwise, or not recorded because a client waited in vain.
    pub failed: usize,
    /// Scripts that need something Sonata does not have yet; see `not_yet.txt`.
    pub skipped: usize,
}

/// A script with the place and the text of its expected answers.
struct Case {
    script: Script,
    path: PathBuf,
    expected: String,
}

/// Plays every script the options ask for and writes findings to `out`, in the order of the scripts' names.
///
/// # Errors
/// [`WireError`] when a script, the list of divergences or the server's program is unusable.
pub fn run(options: &Options, out: &mut dyn Write) -> Result<Verdict, WireError> {
    let (cases, skipped) = cases(options)?;
    let run_folder = RunFolder::new()?;
    let pki = Pki::make(&run_folder.0.join("tls"))?;
    let findings: Vec<Mutex<Option<Finding>>> = cases.iter().map(|_| Mutex::new(None)).collect();
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..options.jobs {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let (Some(case), Some(slot)) = (cases.get(index), findings.get(index)) else { break };
                    let folder = run_folder.0.join(index.to_string());
                    let finding = judge(case, options, &pki, &folder);
                    *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(finding);
                }
            });
        }
    });
    let mut verdict = Verdict { skipped, ..Verdict::default() };
    for (case, finding) in cases.iter().zip(findings) {
        match finding.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(Finding::Fine) => verdict.passed += 1,
            Some(Finding::Otherwise(text)) => {
                verdict.failed += 1;
                report(out, &format!("--- {}: {}\n{text}", case.script.name, case.script.title))?;
            }
            None => verdict.failed += 1,
        }
    }
    let Verdict { passed, failed, skipped } = verdict;
    report(
        out,
        &match skipped {
            0 => format!("{passed} passed, {failed} failed\n"),
            _ => format!("{passed} passed, {failed} failed, {skipped} skipped\n"),
        },
    )?;
    Ok(verdict)
}

enum Finding {
    Fine,
    Otherwise(String),
}

fn judge(case: &Case, options: &Options, pki: &Pki, folder: &Path) -> Finding {
    let transcript = match play::play(&case.script, &options.server, pki, folder) {
        Ok(transcript) => transcript,
        Err(error) => return Finding::Otherwise(format!("{error}\n")),
    };
    let recording = matches!(options.purpose, Purpose::Record | Purpose::RecordDivergences);
    if recording && !transcript.timed_out {
        return match fs::write(&case.path, &transcript.text) {
            Ok(()) => Finding::Fine,
            Err(error) => Finding::Otherwise(format!("{}\n", WireError::file(&case.path, error))),
        };
    }
    if recording || transcript.text != case.expected {
        return Finding::Otherwise(difference(&case.expected, &transcript.text));
    }
    Finding::Fine
}

/// The scripts to play, by name, and how many are left out because Sonata cannot play them yet.
fn cases(options: &Options) -> Result<(Vec<Case>, usize), WireError> {
    let folder = options.folder.join("scripts");
    let divergences = Divergences::read(&options.folder.join("divergences.txt"))?;
    let not_yet = Divergences::read(&options.folder.join("not_yet.txt"))?;
    let all = names(&folder)?;
    let mut skipped = 0;
    if let Some(unknown) =
        divergences.scripts().chain(not_yet.scripts()).find(|listed| !all.iter().any(|name| name == listed))
    {
        return Err(WireError::Divergence(format!("there is no script `{unknown}`")));
    }
    let mut cases = Vec::new();
    for name in all.into_iter().filter(|name| matches(&options.only, name)) {
        let listed = divergences.reason(&name).is_some();
        if options.purpose == Purpose::RecordDivergences && !listed {
            continue;
        }
        if options.purpose == Purpose::Check && not_yet.reason(&name).is_some() {
            skipped += 1;
            continue;
        }
        let truth = folder.join(format!("{name}.txt"));
        let other = folder.join(format!("{name}.sonata.txt"));
        let text = fs::read_to_string(&truth).map_err(|error| WireError::file(&truth, error))?;
        let script = Script::parse(&name, &text)?;
        let case = match options.purpose {
            Purpose::RecordDivergences => Case { script, path: other, expected: text },
            Purpose::Check if listed => {
                let expected = fs::read_to_string(&other).map_err(|error| WireError::file(&other, error))?;
                Case { script, path: other, expected }
            }
            Purpose::Check | Purpose::CheckReference | Purpose::Record => {
                Case { script, path: truth, expected: text }
            }
        };
        cases.push(case);
    }
    Ok((cases, skipped))
}

/// `area/name` of every script below `folder`, sorted; an area may hold others.
pub fn names(folder: &Path) -> Result<Vec<String>, WireError> {
    let mut names = Vec::new();
    for area in entries(folder)? {
        names_in(folder, &area, &mut names)?;
    }
    names.sort();
    Ok(names)
}

fn names_in(folder: &Path, area: &str, names: &mut Vec<String>) -> Result<(), WireError> {
    for entry in entries(&folder.join(area))? {
        let path = format!("{area}/{entry}");
        if folder.join(&path).is_dir() {
            names_in(folder, &path, names)?;
        } else if let Some(name) = path.strip_suffix(".txt").filter(|name| !name.ends_with(".sonata")) {
            names.push(name.to_owned());
        }
    }
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<String>, WireError> {
    let listing = fs::read_dir(folder).map_err(|error| WireError::file(folder, error))?;
    let mut names = Vec::new();
    for entry in listing {
        let entry = entry.map_err(|error| WireError::file(folder, error))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

/// Largest number of table cells for the comparison of two texts; beyond it they are shown whole.
const COMPARED_CELLS_MAX: usize = 4_000_000;

/// Lines shown around a difference.
const CONTEXT_LINES: usize = 2;

/// Where two texts differ: lines that are missing with `-`, lines that are new with `+`, and a few around them.
fn difference(expected: &str, actual: &str) -> String {
    let expected: Vec<&str> = expected.lines().collect();
    let actual: Vec<&str> = actual.lines().collect();
    let edits = edits(&expected, &actual);
    let near = |index: usize| {
        let from = index.saturating_sub(CONTEXT_LINES);
        edits.iter().skip(from).take(index + CONTEXT_LINES + 1 - from).any(|(mark, _)| *mark != ' ')
    };
    let mut text = String::new();
    for (index, (mark, line)) in edits.iter().enumerate() {
        if near(index) {
            text.push_str(&format!("{mark} {line}\n"));
        }
    }
    text
}

/// The shortest way from one text to the other, line by line.
fn edits<'a>(expected: &[&'a str], actual: &[&'a str]) -> Vec<(char, &'a str)> {
    let width = actual.len() + 1;
    if (expected.len() + 1).saturating_mul(width) > COMPARED_CELLS_MAX {
        let missing = expected.iter().map(|&line| ('-', line));
        return missing.chain(actual.iter().map(|&line| ('+', line))).collect();
    }
    // common[i * width + j] is the length of the longest common run of lines behind i and j.
    let mut common = vec![0usize; (expected.len() + 1) * width];
    let cell = |common: &[usize], i: usize, j: usize| common.get(i * width + j).copied().unwrap_or(0);
    for (i, old) in expected.iter().enumerate().rev() {
        for (j, new) in actual.iter().enumerate().rev() {
            let best = if old == new {
                cell(&common, i + 1, j + 1) + 1
            } else {
                cell(&common, i + 1, j).max(cell(&common, i, j + 1))
            };
            if let Some(slot) = common.get_mut(i * width + j) {
                *slot = best;
            }
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut edits = Vec::new();
    loop {
        match (expected.get(i), actual.get(j)) {
            (Some(old), Some(new)) if old == new => {
                edits.push((' ', *old));
                i += 1;
                j += 1;
            }
            (Some(old), new) if new.is_none() || cell(&common, i + 1, j) >= cell(&common, i, j + 1) => {
                edits.push(('-', *old));
                i += 1;
            }
            (_, Some(new)) => {
                edits.push(('+', *new));
                j += 1;
            }
            _ => return edits,
        }
    }
}

fn report(out: &mut dyn Write, text: &str) -> Result<(), WireError> {
    out.write_all(text.as_bytes()).map_err(|error| WireError::io("writing the findings", error))
}

/// A temporary folder that goes when the run is over.
struct RunFolder(PathBuf);

impl RunFolder {
    fn new() -> Result<RunFolder, WireError> {
        let folder = std::env::temp_dir().join(format!("sonata-wire-{}", std::process::id()));
        fs::create_dir_all(&folder).map_err(|error| WireError::file(&folder, error))?;
        Ok(RunFolder(folder))
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        // What cannot be removed is left to the system's own cleaning.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_shows_what_is_missing_and_what_is_new() {
        assert_eq!(difference("a\nb\nc\nd\ne\nf\n", "a\nb\nc\nd\nX\nf\n"), "  c\n  d\n- e\n+ X\n  f\n");
        assert_eq!(difference("a\n", "a\nb\n"), "  a\n+ b\n");
        assert_eq!(difference("a\nb\n", "b\n"), "- a\n  b\n");
    }
}

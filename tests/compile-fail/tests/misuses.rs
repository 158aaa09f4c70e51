//! Compiles every case twice: as it is, and with its misuse.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// hv-core as a compiled library.
struct Library {
    file: PathBuf,
    folder: PathBuf,
}

/// Has cargo build hv-core, in the target folder of this very test, and say where it is.
fn library() -> Library {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("tmp is in the target folder");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--package", "hv-core", "--message-format=json", "--target-dir"]).arg(target);
    let built = cargo.output().expect("cargo runs");
    assert!(built.status.success(), "hv-core does not build:\n{}", String::from_utf8_lossy(&built.stderr));
    let text = String::from_utf8_lossy(&built.stdout).into_owned();
    let artifacts = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let own = artifacts.filter(|artifact| artifact["target"]["name"] == "hv_core");
    let files = own.flat_map(|artifact| artifact["filenames"].as_array().cloned().unwrap_or_default());
    let mut files = files.filter_map(|name| name.as_str().map(PathBuf::from));
    let file = files.find(|at| at.extension().is_some_and(|kind| kind == "rlib")).expect("cargo names the library");
    // The library itself, or a link to the one among its dependencies.
    let folder = file.parent().expect("a file is in a folder");
    let folder = if folder.ends_with("deps") { folder.to_owned() } else { folder.join("deps") };
    Library { file, folder }
}

/// The codes of the errors that the compiler gives for a file; for a lint, its name.
fn errors(library: &Library, case: &Path, misuse: bool) -> BTreeSet<String> {
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.args(["--edition=2024", "--crate-type=lib", "--crate-name=case", "--emit=metadata", "--error-format=json"]);
    rustc.args(["--check-cfg=cfg(misuse)", "-Dunused_must_use", "-o"]);
    rustc.arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("case.rmeta"));
    rustc.arg("--extern").arg(format!("hv_core={}", library.file.display()));
    rustc.arg("-L").arg(format!("dependency={}", library.folder.display())).arg(case);
    if misuse {
        rustc.args(["--cfg", "misuse"]);
    }
    let done = rustc.output().expect("rustc runs");
    let text = String::from_utf8_lossy(&done.stderr).into_owned();
    let messages: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let failed: Vec<&Value> = messages.iter().filter(|message| message["level"] == "error").collect();
    assert_eq!(done.status.success(), failed.is_empty(), "{}: {text}", case.display());
    // The last one only counts the others.
    let first = failed.iter().filter(|message| !message["message"].as_str().unwrap_or("").starts_with("aborting"));
    first.map(|message| message["code"]["code"].as_str().unwrap_or("an error without a code").to_owned()).collect()
}

/// `//! E0382: what is wrong`.
fn expected(case: &Path) -> String {
    let text = std::fs::read_to_string(case).expect("a case can be read");
    let head = text.lines().next().and_then(|line| line.strip_prefix("//! ")).and_then(|line| line.split_once(": "));
    head.unwrap_or_else(|| panic!("{} does not begin with its error", case.display())).0.to_owned()
}

#[test]
fn every_misuse_is_refused_for_its_own_reason() {
    let library = library();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let entries = std::fs::read_dir(folder).expect("the cases' folder");
    let mut cases: Vec<PathBuf> = entries.map(|entry| entry.expect("a case").path()).collect();
    cases.sort();
    assert!(cases.len() >= 20, "only {} cases were found", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let name = case.file_stem().unwrap_or_default().to_string_lossy();
        let correct = errors(&library, case, false);
        if !correct.is_empty() {
            wrong.push(format!("{name}: does not compile even without its misuse: {correct:?}"));
        }
        let found = errors(&library, case, true);
        if found != BTreeSet::from([expected(case)]) {
            wrong.push(format!("{name}: expected {}, the compiler says {found:?}", expected(case)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

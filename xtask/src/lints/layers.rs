//! Dependencies point one way: board -> one backend -> hv-core -> counted; board -> kit -> conformance -> hv-core; nothing
//! points back. And what belongs to an architecture stays out of hv-core, what is unsafe stays in backends, boards,
//! bare-metal guests and the pointer by which hv-core shares things.

use super::source::{Source, has_word};
use super::{Problem, Tree};

/// What a package is, by its folder.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layer {
    /// The pointer that counts its handles.
    Counted,
    Core,
    Backend,
    Board,
    /// A board's hot path, which is compiled otherwise than the rest of it.
    Loop,
    /// What of that is compiled otherwise again.
    Calls,
    /// What boards share.
    Kit,
    Conformance,
    /// Cases of what one backend alone has.
    OwnCases,
    Tests,
    /// Tests' and benchmarks' own raw memory: the host benchmark measures tables in it, the failures' heap refuses some.
    RawTests,
    /// Bare-metal programs that run as guests.
    Guests,
    Xtask,
}

impl Layer {
    fn of(folder: &str) -> Option<Self> {
        match folder {
            "counted" => Some(Self::Counted),
            "hv-core" => Some(Self::Core),
            "xtask" => Some(Self::Xtask),
            "boards/kit" => Some(Self::Kit),
            "tests/conformance" => Some(Self::Conformance),
            "tests/conformance-hash" | "tests/conformance-nest" => Some(Self::OwnCases),
            "tests/bench-host" | "tests/properties" => Some(Self::RawTests),
            _ if folder.starts_with("backend-") => Some(Self::Backend),
            _ if folder.starts_with("boards/") && folder.ends_with("/loop") => Some(Self::Loop),
            _ if folder.starts_with("boards/") && folder.ends_with("/calls") => Some(Self::Calls),
            _ if folder.starts_with("boards/") => Some(Self::Board),
            _ if folder.starts_with("tests/guests/") => Some(Self::Guests),
            _ if folder.starts_with("tests/") => Some(Self::Tests),
            _ => None,
        }
    }

    fn may_use(self, other: Self) -> bool {
        match self {
            Self::Counted | Self::Guests => false,
            Self::Core => other == Self::Counted,
            Self::Backend | Self::Conformance | Self::Xtask => other == Self::Core,
            Self::OwnCases => matches!(other, Self::Core | Self::Backend | Self::Conformance),
            Self::Board => {
                matches!(
                    other,
                    Self::Core | Self::Backend | Self::Kit | Self::Conformance | Self::OwnCases | Self::Loop
                )
            }
            Self::Kit => matches!(other, Self::Core | Self::Conformance),
            Self::Loop => matches!(other, Self::Core | Self::Backend | Self::Calls),
            Self::Calls => matches!(other, Self::Core | Self::Backend),
            Self::Tests | Self::RawTests => {
                matches!(other, Self::Core | Self::Backend | Self::Conformance | Self::OwnCases | Self::Tests)
            }
        }
    }
}

/// The lint.
pub fn check(tree: &Tree) -> Vec<Problem> {
    let manifests: Vec<&Source> = tree.files.iter().filter(|file| file.path.ends_with("Cargo.toml")).collect();
    let packages: Vec<(String, String)> = manifests.iter().filter_map(|file| package(file)).collect();
    let mut problems: Vec<Problem> = manifests.iter().flat_map(|file| arrows(file, &packages)).collect();
    problems.extend(tree.rust().flat_map(contents));
    problems
}

/// A manifest's folder and its package's name.
fn package(manifest: &Source) -> Option<(String, String)> {
    let folder = manifest.path.parent()?.to_string_lossy().replace('\\', "/");
    let value: toml::Table = manifest.text.parse().ok()?;
    Some((folder, value.get("package")?.get("name")?.as_str()?.to_owned()))
}

fn arrows(manifest: &Source, packages: &[(String, String)]) -> Vec<Problem> {
    let problem = |what: String| Problem::error(&manifest.path, 0, what);
    let Some((folder, name)) = package(manifest) else { return Vec::new() };
    let Some(layer) = Layer::of(&folder) else { return vec![problem(format!("{folder} belongs to no layer"))] };
    let Ok(value) = manifest.text.parse::<toml::Table>() else { return vec![problem("does not parse".to_owned())] };
    let own = ["dependencies", "build-dependencies"].into_iter().filter_map(|key| value.get(key));
    let targets = value.get("target").and_then(toml::Value::as_table).into_iter().flatten();
    let targets = targets.filter_map(|(_, table)| table.get("dependencies"));
    let used: Vec<&String> = own.chain(targets).filter_map(toml::Value::as_table).flat_map(toml::Table::keys).collect();
    let used: Vec<(&str, Layer)> = packages
        .iter()
        .filter(|(_, name)| used.contains(&name))
        .filter_map(|(folder, name)| Some((name.as_str(), Layer::of(folder)?)))
        .collect();
    let mut problems: Vec<Problem> = used
        .iter()
        .filter(|(_, other)| !layer.may_use(*other))
        .map(|(other, _)| problem(format!("{name} may not depend on {other}")))
        .collect();
    if layer == Layer::Board && used.iter().filter(|(_, other)| *other == Layer::Backend).count() > 1 {
        problems.push(problem(format!("{name} depends on more than one backend")));
    }
    problems
}

fn contents(file: &Source) -> Vec<Problem> {
    let layer = Layer::of(&file.package());
    let unsafe_here = matches!(
        layer,
        Some(Layer::Counted | Layer::Backend | Layer::Board | Layer::Kit | Layer::Guests | Layer::RawTests)
    );
    let mut problems = Vec::new();
    for (number, line) in file.code_lines() {
        if layer == Some(Layer::Core) && has_word(line, "target_arch") {
            problems.push(Problem::error(&file.path, number, "hv-core knows no architecture"));
        }
        if layer.is_some() && !unsafe_here && has_word(line, "unsafe") {
            problems.push(Problem::error(&file.path, number, "unsafe code belongs in a backend or a board"));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::super::{Tree, found};
    use super::check;

    const CORE: (&str, &str) = ("hv-core/Cargo.toml", "[package]\nname='hv-core'");
    const BACKEND: (&str, &str) = ("backend-a/Cargo.toml", "[package]\nname='backend-a'\n[dependencies]\nhv-core='1'");

    #[test]
    fn arrows_that_point_back_are_found() {
        let core =
            ("hv-core/Cargo.toml", "[package]\nname='hv-core'\n[target.'cfg(loom)'.dependencies]\nbackend-a='1'");
        let tree = Tree::of(&[core, BACKEND]);
        assert_eq!(found(&check(&tree)), ["hv-core/Cargo.toml:0: hv-core may not depend on backend-a"]);
    }

    #[test]
    fn a_board_has_one_backend() {
        let other = ("backend-b/Cargo.toml", "[package]\nname='backend-b'");
        let one = ("boards/x/Cargo.toml", "[package]\nname='x'\n[dependencies]\nhv-core='1'\nbackend-a='1'");
        let two = ("boards/x/Cargo.toml", "[package]\nname='x'\n[dependencies]\nbackend-b='1'\nbackend-a='1'");
        assert!(check(&Tree::of(&[CORE, BACKEND, other, one])).is_empty());
        assert_eq!(found(&check(&Tree::of(&[CORE, BACKEND, other, two]))).len(), 1);
    }

    #[test]
    fn a_boards_calls_are_its_loops() {
        let calls = ("boards/x/calls/Cargo.toml", "[package]\nname='x-calls'\n[dependencies]\nbackend-a='1'");
        let own = ("boards/x/loop/Cargo.toml", "[package]\nname='x-loop'\n[dependencies]\nx-calls='1'");
        let board = ("boards/x/Cargo.toml", "[package]\nname='x'\n[dependencies]\nx-calls='1'");
        assert!(check(&Tree::of(&[CORE, BACKEND, calls, own])).is_empty());
        assert_eq!(
            found(&check(&Tree::of(&[CORE, BACKEND, calls, board]))),
            ["boards/x/Cargo.toml:0: x may not depend on x-calls"]
        );
    }

    #[test]
    fn the_kit_knows_no_backend_and_its_boards_do_not_know_each_other() {
        let kit = ("boards/kit/Cargo.toml", "[package]\nname='kit'\n[dependencies]\nhv-core='1'\nbackend-a='1'");
        assert_eq!(
            found(&check(&Tree::of(&[CORE, BACKEND, kit]))),
            ["boards/kit/Cargo.toml:0: kit may not depend on backend-a"]
        );
        let kit = ("boards/kit/Cargo.toml", "[package]\nname='kit'\n[dependencies]\nhv-core='1'");
        let board = ("boards/x/Cargo.toml", "[package]\nname='x'\n[dependencies]\nkit='1'");
        let other = ("boards/y/Cargo.toml", "[package]\nname='y'\n[dependencies]\nx='1'");
        assert!(check(&Tree::of(&[CORE, kit, board])).is_empty());
        assert_eq!(
            found(&check(&Tree::of(&[CORE, kit, board, other]))),
            ["boards/y/Cargo.toml:0: y may not depend on x"]
        );
    }

    #[test]
    fn architecture_and_unsafe_stay_where_they_belong() {
        let bad = ("hv-core/src/a.rs", "#[cfg(target_arch = \"x\")]\nfn f() { unsafe { g() } } // unsafe");
        let good = ("backend-a/src/a.rs", "#[cfg(target_arch = \"x\")]\nfn f() { unsafe { g() } }");
        assert_eq!(found(&check(&Tree::of(&[good]))).len(), 0);
        assert_eq!(found(&check(&Tree::of(&[bad]))).len(), 2);
    }
}

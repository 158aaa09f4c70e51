//! The catalogue's form, and what is said of mistakes in it.

use super::parse;
use crate::model::Runner;
use crate::museum::exhibit::{Catalogue, Check, State};
use std::path::Path;
use std::time::Duration;

const HEAD: &str = "[sections]\nA = 'first'\nB = 'second'\n[[exhibit]]\n";
const BODY: &str = "title='t'\nrules=['R6']\npoint='p'\n";

fn read(text: &str) -> Catalogue {
    parse(text).map_err(|wrong| wrong.refusal(Path::new("f"), text)).unwrap()
}

fn wrong(rest: &str) -> String {
    let text = format!("{HEAD}{rest}");
    parse(&text).err().unwrap().refusal(Path::new("f"), &text).to_string()
}

#[test]
fn each_kind_of_check_is_read() {
    let text = format!(
        "{HEAD}id='A1'\n{BODY}check={{scenario='s',runner='loom'}}\noracle='G1'\nbound=3\ngate=true\nlimit=9\n\
         [[exhibit]]\nid='B2a'\n{BODY}check={{test={{package='p',name='n'}}}}\noracle='G2'\nalso=['B2-x']\nalone=true\n\
         [[exhibit]]\nid='B3'\n{BODY}check={{case={{column='c',name='n'}}}}\noracle='G3'\n\
         [[exhibit]]\nid='B4'\n{BODY}waits_for='issue 5'\n"
    );
    let catalogue = read(&text);
    let planted: Vec<_> = catalogue.exhibits.iter().map(|exhibit| exhibit.planted()).collect();
    let first = planted[0].unwrap();
    assert_eq!(first.check, Check::Scenario { runner: Runner::Loom, name: "s".into(), bound: Some(3) });
    assert_eq!((first.gate, first.limit, first.patches.join(" ")), (true, Duration::from_secs(9), "A1".into()));
    let second = planted[1].unwrap();
    assert_eq!(second.check, Check::Test { package: "p".into(), name: "n".into() });
    assert!(second.alone && !second.gate && second.patches == ["B2a", "B2-x"]);
    assert_eq!(planted[2].unwrap().check, Check::Case { column: "c".into(), name: "n".into() });
    assert_eq!(catalogue.exhibits[3].state, State::Waits("issue 5".into()));
    assert_eq!((catalogue.exhibits[1].section(), catalogue.exhibits[1].rules()), ('B', "R6".into()));
}

#[test]
fn mistakes_name_their_line() {
    let check = "check={scenario='s',runner='loom'}\n";
    for (rest, part) in [
        ("", "f:4: missing field `id`"),
        (&*format!("id='A1'\n{BODY}"), "f:5: A1 needs either check or waits_for"),
        (&*format!("id='A1'\n{BODY}{check}"), "f:5: A1 has a check but no oracle"),
        (&*format!("id='A1'\n{BODY}{check}oracle=' '\n"), "f:10: A1: the oracle is empty"),
        (&*format!("id='A1'\n{BODY}{check}oracle='x'\nwaits_for='y'\n"), "f:5: A1 needs either"),
        (&*format!("id='A1'\n{BODY}gate=true\nwaits_for='y'\n"), "f:9: A1 waits, so"),
        (&*format!("id='A1'\n{BODY}waits_for=''\n"), "f:9: A1: say what"),
        (&*format!("id='C1'\n{BODY}waits_for='y'\n"), "f:5: exhibit \"C1\""),
        (&*format!("id='A1bb'\n{BODY}waits_for='y'\n"), "f:5: exhibit \"A1bb\""),
        (&*format!("id='A'\n{BODY}waits_for='y'\n"), "f:5: exhibit \"A\""),
        (&*format!("id='A1'\n{BODY}wait_for='y'\n"), "f:9: unknown field"),
        (&*format!("id='A1'\n{BODY}wait_for='y'\n"), "did you mean \"waits_for\"?"),
        (&*format!("id='A1'\n{BODY}{check}oracle='x'\nalone=true\n"), "f:11: A1: alone needs"),
        (&*format!("id='A1'\n{BODY}{check}oracle='x'\nlimit=0\n"), "f:11: A1: a limit of no time"),
        (&*format!("id='A1'\n{BODY}{check}oracle='x'\nlimit='a'\n"), "f:11: "),
        (&*format!("id='A1'\n{BODY}check={{scenario='s'}}\noracle='x'\n"), "f:9: A1: a check is one of"),
        (&*format!("id='A1'\n{BODY}check={{scenario='s',runner='lom'}}\noracle='x'\n"), "f:9: unknown variant"),
        (
            &*format!("id='A1'\n{BODY}check={{scenario='s',runner='miri'}}\noracle='x'\n"),
            "f:9: A1: the museum has no Miri",
        ),
        (
            &*format!("id='A1'\n{BODY}check={{case={{column='c',name='n'}}}}\noracle='x'\nbound=2\n"),
            "f:11: A1: only scenarios have a bound",
        ),
        ("id='A1'\ntitle='t'\nrules=['R28']\npoint='p'\nwaits_for='y'\n", "f:7: rule \"R28\": R1 to R27"),
        ("id='A1'\ntitle='t'\nrules=[]\npoint='p'\nwaits_for='y'\n", "f:7: at least one rule"),
    ] {
        let what = wrong(rest);
        assert!(what.contains(part) && what.lines().count() == 1, "{rest:?}: {what}");
    }
    let twice = format!("id='A1'\n{BODY}waits_for='y'\n[[exhibit]]\nid='A1'\n{BODY}waits_for='y'\n");
    assert!(wrong(&twice).contains("f:11: a second exhibit is A1"));
    assert!(parse("[sections]\nA='a'\n").is_err() && parse("[sections]\nAB='a'\n").is_err());
}

#[test]
fn a_wrong_id_gets_a_suggestion() {
    let catalogue = read(&format!("{HEAD}id='A11b'\n{BODY}waits_for='y'\n"));
    assert_eq!(catalogue.named("a11B").unwrap().id, "A11b");
    assert!(catalogue.named("a11").unwrap_err().to_string().contains("did you mean \"A11b\"?"));
}

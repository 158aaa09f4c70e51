//! H_PAGE_INIT.

use backend_ppc64::hash::calls::{Called, Context, RealMode, TableCall};
use conformance::verdict::{Run, Stop, check};
use hv_core::addr::Gpa;

use crate::guest::{Guest, PAGE, PAGES, PARAMETER, SUCCESS};
use crate::{cases, on_guest};

cases! { 9:
    "page-init-zeroes", "P2", Never, zeroes;
    "page-init-copies", "P2", Never, copies;
    "page-init-copies-what-was-never-touched", "P2", Never, copies_nothing;
    "page-init-with-hints-only-changes-nothing", "P2", Never, hints;
    "page-init-of-what-is-no-page", "R26", Never, misaligned;
    "page-init-with-an-unknown-flag", "R26", Never, unknown;
    "page-init-outside-of-memory", "R26", Never, outside;
    "page-init-from-outside-of-memory", "R26", Never, from_outside;
    "page-init-is-deferred-by-real-mode", "R21", Never, deferred;
}

const ZERO: u64 = 1 << (63 - 48);
const COPY: u64 = 1 << (63 - 49);
const ICACHE: u64 = 3 << (63 - 41);

fn word<I>(g: &Guest<'_, I>, at: u64) -> Result<u64, Stop>
where
    I: hv_core::isa::Isa,
{
    let mut bytes = [0; 8];
    let read = g.memory.read(g.b.cpu, g.b.m, Gpa(at), &mut bytes);
    read.map(|()| u64::from_le_bytes(bytes)).map_err(|_| Stop::Fail("RAM cannot be read"))
}

fn write<I: hv_core::isa::Isa>(g: &Guest<'_, I>, at: u64, value: u64) -> Run {
    check(g.memory.write(g.b.cpu, g.b.m, Gpa(at), &value.to_le_bytes()).is_ok(), "RAM cannot be written")
}

on_guest! {
fn zeroes(g) {
    let at = PAGE << 12;
    for offset in [0, 0x7f8, 0xff8] {
        write(g, at + offset, 7)?;
    }
    write(g, at - 8, 7)?;
    g.call(TableCall::PageInit, &[ZERO | ICACHE, at, 0]).is(SUCCESS, "a page was not zeroed")?;
    for offset in [0, 0x7f8, 0xff8] {
        check(word(g, at + offset)? == 0, "some of the page is not zero")?;
    }
    check(word(g, at - 8)? == 7 && word(g, at + 0x1000)? == 0, "more than the page was changed")
}

fn copies(g) {
    let (to, from) = (PAGE << 12, (PAGE + 2) << 12);
    write(g, from, 1)?;
    write(g, from + 0xff8, 2)?;
    // Copied, if both are asked for.
    g.call(TableCall::PageInit, &[COPY | ZERO, to, from]).is(SUCCESS, "a page was not copied")?;
    check(word(g, to)? == 1 && word(g, to + 0xff8)? == 2 && word(g, from)? == 1, "it is another page")
}

fn copies_nothing(g) {
    let (to, from) = (PAGE << 12, (PAGE + 2) << 12);
    write(g, to, 1)?;
    g.call(TableCall::PageInit, &[COPY, to, from]).is(SUCCESS, "a page was not copied")?;
    check(word(g, to)? == 0, "a page that nobody touched is not zeros")
}

fn hints(g) {
    write(g, PAGE << 12, 1)?;
    let free = g.b.free();
    g.call(TableCall::PageInit, &[ICACHE | 0xe << (63 - 45), PAGE << 12, 0]).is(SUCCESS, "hints were refused")?;
    g.call(TableCall::PageInit, &[0, (PAGE + 1) << 12, 3]).is(SUCCESS, "a call for nothing was refused")?;
    check(word(g, PAGE << 12)? == 1 && g.b.free() == free, "a hint changed memory")
}

fn misaligned(g) {
    for (to, from) in [(PAGE << 12 | 8, 0), (PAGE << 12, 0x1001), (u64::MAX, 0)] {
        g.call(TableCall::PageInit, &[COPY, to, from]).is(PARAMETER, "what is no page was copied")?;
    }
    g.call(TableCall::PageInit, &[ZERO, 1, 0]).is(PARAMETER, "what is no page was zeroed")
}

fn unknown(g) {
    for flag in [1, 1 << 63, 1 << (63 - 47), 1 << (63 - 24)] {
        g.call(TableCall::PageInit, &[ZERO | flag, PAGE << 12, 0]).is(PARAMETER, "an unknown flag was taken")?;
    }
    check(word(g, PAGE << 12)? == 0, "a refusal changed memory")
}

fn outside(g) {
    for to in [PAGES << 12, !0xfff] {
        for flags in [0, ZERO, COPY] {
            g.call(TableCall::PageInit, &[flags, to, 0]).is(PARAMETER, "a page that is not the guest's was taken")?;
        }
    }
    Ok(())
}

fn from_outside(g) {
    write(g, PAGE << 12, 1)?;
    let done = g.call(TableCall::PageInit, &[COPY, PAGE << 12, PAGES << 12]);
    done.is(PARAMETER, "a page that is not the guest's was copied")?;
    check(word(g, PAGE << 12)? == 1, "a refusal changed memory")
}

fn deferred(g) {
    let real = RealMode::on(g.b.cpu, 0).ok_or(Stop::Fail("no real mode"))?;
    write(g, PAGE << 12, 1)?;
    let (done, answer) = g.call_in(Context::Real(real), TableCall::PageInit, &[ZERO, PAGE << 12, 0]);
    check(done == Called::Defer && answer.r[..3] == [ZERO, PAGE << 12, 0], "real mode stored to guest memory")?;
    check(word(g, PAGE << 12)? == 1, "R21: a deferral changed memory")
}
}

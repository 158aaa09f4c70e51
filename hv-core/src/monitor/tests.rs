//! The monitor against a runtime that only plays one.

use super::{
    DirtyOrder, DirtyUse, ExitCounts, MemoryInfo, Operator, OwnMemory, PageUse, StoreUse, SwapUse, VmInfo, execute,
};
use crate::addr::{Gfn, GfnRange};
use crate::guest::lifecycle::{Refused, State};
use crate::host::{Reclaimed, Survey};
use crate::link::CommandResult;
use crate::vcpu::exit::End;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt::{self, Write};

/// Two VMs, and a record of what was ordered.
#[derive(Default)]
struct Fake {
    orders: RefCell<Vec<String>>,
}

impl Fake {
    fn note(&self, order: &str, vm: usize) -> Result<(), Refused> {
        self.orders.borrow_mut().push(format!("{order} {vm}"));
        if vm == 0 { Ok(()) } else { Err(Refused::Ended) }
    }
}

impl Operator for Fake {
    fn vms(&self) -> usize {
        2
    }
    fn vm_info(&self, vm: usize) -> Option<VmInfo<'_>> {
        let exits =
            ExitCounts { faults: 9781, calls: 20_480, unknown_calls: 3, interrupts: 512, deadlines: 77, halts: 400 };
        let alpha = VmInfo {
            name: "alpha",
            state: State::Running,
            restarts: 0,
            vcpus: 2,
            memory: 512 << 20,
            resident: 9781,
            tables: 30,
            places: [GfnRange::new(Gfn(0), 512 << 8), None, None],
            swap: SwapUse { pages: 2560, outs: 3000, ins: 440, aged: 96, referenced: 8000 },
            dirty: DirtyUse { on: true, harvests: 20, pages: 123 },
            cpu_ticks: 1_234_567,
            exits,
        };
        let b = VmInfo {
            name: "b",
            state: State::Ended(End::GuestPanic),
            restarts: 11,
            vcpus: 1,
            memory: 2 << 30,
            resident: 0,
            tables: 0,
            places: [
                GfnRange::new(Gfn(0), 1 << 18),
                GfnRange::new(Gfn(2 << 18), 1 << 18),
                GfnRange::new(Gfn(3 << 18), 1 << 12),
            ],
            swap: SwapUse::default(),
            dirty: DirtyUse::default(),
            cpu_ticks: 0,
            exits: ExitCounts::default(),
        };
        [alpha, b].get(vm).copied()
    }
    fn memory(&self) -> MemoryInfo {
        let own = OwnMemory { image: 400 << 10, metadata: 512 << 10, heap: 64 << 10, tables: 120 << 10 };
        let store = StoreUse { bytes: 6 << 20, pages: 2560, same: 512, before: 8 << 20, after: 5 << 20, refused: 7 };
        MemoryInfo {
            total: 1 << 30,
            free: 900 << 20,
            reserve: 64 << 12,
            guests: 9781 << 12,
            store,
            firmware: 30 << 20,
            bundle: 50 << 20,
            own,
        }
    }
    fn report(&self, vm: usize, out: &mut dyn Write) -> fmt::Result {
        if vm == 0 { writeln!(out, "CALL_A: 49000") } else { Ok(()) }
    }
    fn tags(&self) -> [u64; 2] {
        [15, 1234]
    }
    fn pages(&self, vm: usize) -> Option<PageUse> {
        let alpha = PageUse {
            small: 565,
            huge: 9216,
            giant: 0,
            teams: 4,
            broken: 1,
            splits: 2,
            collapses: 3,
            retries: 7,
            flushes: 12,
        };
        (vm == 0).then_some(alpha)
    }
    /// Of alpha's blocks of 2 MiB each of the first nine is something else.
    fn survey(&self, vm: usize, gfns: GfnRange) -> Option<Survey> {
        let none = Survey::default();
        let kinds = [
            Survey { huge: 512, ..none },
            Survey { small: 255, ..none },
            Survey { small: 256, ..none },
            Survey { team: 512, ..none },
            Survey { small: 511, swapped: 1, ..none },
            Survey { small: 256, swapped: 256, ..none },
            Survey { small: 511, dirty: 1, swapped: 1, ..none },
            Survey { huge: 512, dirty: 512, ..none },
            none,
        ];
        let first = usize::try_from(gfns.start().0 / 512).unwrap();
        (vm == 0).then(|| kinds.get(first).copied().unwrap_or_default())
    }
    fn dirty(&self, vm: usize, order: DirtyOrder, found: &mut dyn FnMut(GfnRange)) -> Result<u64, Refused> {
        [(0x10, 70), (0x1000, 7)].into_iter().filter_map(|(at, pages)| GfnRange::new(Gfn(at), pages)).for_each(found);
        self.note(&format!("{order:?}"), vm).map(|()| 77)
    }
    fn reclaim(&self, vm: usize, pages: u64) -> Result<Reclaimed, Refused> {
        self.note(&format!("reclaim {pages}"), vm).map(|()| Reclaimed { freed: 5, looked: 2, refused: 1 })
    }
    fn ticks_per_second(&self) -> u64 {
        1_000_000
    }
    fn stop(&self, vm: usize) -> Result<(), Refused> {
        self.note("stop", vm)
    }
    fn start(&self, vm: usize) -> Result<(), Refused> {
        self.note("start", vm)
    }
    fn focus(&self, vm: usize) -> Result<(), Refused> {
        self.note("focus", vm)
    }
    fn power_off(&self) {
        self.orders.borrow_mut().push("off".into());
    }
}

/// What a line prints, how it went, and what it ordered.
fn run(line: &str) -> (String, CommandResult, Vec<String>) {
    let (fake, mut out) = (Fake::default(), String::new());
    let result = execute(line, &fake, &mut out);
    (out, result, fake.orders.into_inner())
}

fn printed(line: &str) -> String {
    let (out, result, orders) = run(line);
    assert_eq!((result, orders.len()), (CommandResult::Done, 0), "{line}: {out}");
    out
}

#[test]
fn list_shows_every_vm() {
    let want = "\
NO  VM     VCPUS      MEMORY  RESIDENT   SWAPPED  RESTARTS  STATE
 1  alpha      2   512.0 MiB  38.2 MiB  10.0 MiB         0  running
 2  b          1  2048.0 MiB       0 B       0 B        11  ended: its operating system failed
";
    assert_eq!(printed("list"), want);
}

#[test]
fn stat_shows_counters() {
    let want = "\
VM     CPU TIME  EXITS  FAULTS  CALLS  INTERRUPTS  DEADLINES  HALTS
alpha   1.234 s  30850    9781  20480         512         77    400
b       0.000 s      0       0      0           0          0      0
tags: 15 a CPU, 1234 given out
";
    assert_eq!(printed("stat"), want);
    let want = "\
VM            alpha
state         running
restarts      0
vcpus         2
cpu time      1.234 s
memory        512.0 MiB
resident      38.2 MiB
swapped       10.0 MiB
  pages out   3000
  pages in    440
blocks aged   96
  in use      8000
dirty log     on
  harvests    20
  pages       123
tables        120.0 KiB
exits         30850
  faults      9781
  calls       20480
    unknown   3
  interrupts  512
  deadlines   77
halts         400
CALL_A: 49000
";
    assert_eq!(printed("stat alpha"), want);
    assert_eq!(printed("stat 1"), want, "by the number in list");
}

#[test]
fn memory_shows_where_the_frames_are() {
    let want = "\
MEMORY OF                SIZE  FRAMES
machine            1024.0 MiB  262144
  free              900.0 MiB  230400
  reserve           256.0 KiB      64
  guests             38.2 MiB    9781
  swap store          6.0 MiB    1536
  bundle             50.0 MiB   12800
  firmware           30.0 MiB    7680
  Trivet              1.0 MiB     274
    image           400.0 KiB     100
    frame account   512.0 KiB     128
    heap             64.0 KiB      16
    tables          120.0 KiB      30

SWAP STORE  PAGES  OF ONE WORD   BEFORE  COMPRESSED  RATIO  REFUSED
memory       2560          512  8.0 MiB     5.0 MiB    1.6        7

VM         MEMORY  RESIDENT  FRAMES     TABLES    IN 4K     IN 2M  IN 1G
alpha   512.0 MiB  38.2 MiB    9781  120.0 KiB  2.2 MiB  36.0 MiB    0 B
b      2048.0 MiB       0 B       0        0 B      0 B       0 B    0 B

VM     FAULTS  RETRIES  FLUSHES  SPLITS  COLLAPSES  TEAMS  BROKEN
alpha    9781        7       12       2          3      4       1
b           0        0        0       0          0      0       0

VM      SWAPPED  PAGES OUT  PAGES IN  AGED  IN USE  DIRTY LOG  HARVESTS  PAGES
alpha  10.0 MiB       3000       440    96    8000         on        20    123
b           0 B          0         0     0       0        off         0      0
";
    assert_eq!(printed("memory"), want);
    let want = "\
VM        MEMORY  RESIDENT  FRAMES     TABLES    IN 4K     IN 2M  IN 1G
alpha  512.0 MiB  38.2 MiB    9781  120.0 KiB  2.2 MiB  36.0 MiB    0 B

VM     FAULTS  RETRIES  FLUSHES  SPLITS  COLLAPSES  TEAMS  BROKEN
alpha    9781        7       12       2          3      4       1

VM      SWAPPED  PAGES OUT  PAGES IN  AGED  IN USE  DIRTY LOG  HARVESTS  PAGES
alpha  10.0 MiB       3000       440    96    8000         on        20    123
";
    assert_eq!(printed("memory alpha"), want);
}

/// Each kind of block has its character, and what matters most wins.
#[test]
fn the_map_shows_what_every_block_is() {
    let text = printed("memory map alpha");
    let dots = ".".repeat(16);
    let want = format!(
        "\
alpha: memory, 512.0 MiB, one character is 2.0 MiB
      0 MiB  #:+TsSdd........ {dots} {dots} {dots}
    128 MiB  {dots} {dots} {dots} {dots}
    256 MiB  {dots} {dots} {dots} {dots}
    384 MiB  {dots} {dots} {dots} {dots}
  . untouched 498.0 MiB  :+ small 6.9 MiB  # huge 4.0 MiB  T huge, of a shared object 2.0 MiB
  sS swapped 1.0 MiB  d dirty 2.0 MiB  (: and s: less than half of the block; + and S: half or more)
"
    );
    assert_eq!(text, want);
}

/// What lies above a hole and a window are pictures of their own; a VM that has ended has nothing.
#[test]
fn a_map_fits_a_terminal() {
    let text = printed("memory map b");
    let begins = |line: &str| assert!(text.contains(line), "{text}");
    begins("b: memory, 1024.0 MiB, one character is 2.0 MiB\n      0 MiB  ................ ");
    begins("\nb: memory above the hole, 1024.0 MiB, one character is 2.0 MiB\n   2048 MiB  ................ ");
    begins("\nb: shared window, 16.0 MiB, one character is 2.0 MiB\n   3072 MiB  ........\n");
    assert!(text.lines().all(|line| line.len() <= 100) && text.lines().count() <= 11 + 11 + 4, "{text}");
    assert_eq!(printed("memory map"), printed("memory map alpha") + &text);
}

#[test]
fn dirty_and_reclaim_say_what_came_of_it() {
    let done = |text: &str, order: &str| (text.into(), CommandResult::Done, Vec::from([order.into()]));
    assert_eq!(run("dirty alpha start"), done("", "Start 0"));
    assert_eq!(run("dirty alpha harvest"), done("77 pages written since the last harvest\n", "Harvest 0"));
    let listed = "0x10 70\n0x1000 7\n77 pages written since the last harvest\n";
    assert_eq!(run("dirty alpha list"), done(listed, "List 0"));
    assert_eq!(run("dirty alpha stop"), done("", "Stop 0"));
    let told = "5 frames freed, 2 blocks looked at, 1 pages do not compress\n";
    assert_eq!(run("reclaim alpha 64"), done(told, "reclaim 64 0"));
    for (line, text) in [
        ("dirty b harvest", "b cannot be logged: it has ended already\n"),
        ("reclaim b 1", "b cannot be reclaimed: it has ended already\n"),
    ] {
        let (said, result, _) = run(line);
        assert_eq!((&*said, result), (text, CommandResult::Failed));
    }
}

#[test]
fn help_names_every_command() {
    let text = printed("?");
    for spec in super::command::COMMANDS {
        assert!(text.contains(&format!("\n{}", spec.name)), "{text}");
    }
    assert_eq!(printed(""), "");
}

#[test]
fn orders_reach_the_vm_that_was_named() {
    for (line, order) in [("stop alpha", "stop 0"), ("start 1", "start 0"), ("focus alpha", "focus 0")] {
        assert_eq!(run(line), (String::new(), CommandResult::Done, Vec::from([order.into()])));
    }
    assert_eq!(run("poweroff"), ("switching off\n".into(), CommandResult::Done, Vec::from(["off".into()])));
    let (text, result, _) = run("stop b");
    assert_eq!((&*text, result), ("b cannot be stopped: it has ended already\n", CommandResult::Failed));
}

#[test]
fn wrong_names_get_one_line_and_do_nothing() {
    let wrong = [
        ("stop alpa", "no VM \"alpa\"; did you mean \"alpha\"?\n"),
        ("stat 3", "no VM \"3\"; \"list\" shows them\n"),
        ("memory 0x7fffffff", "no VM \"0x7fffffff\"; \"list\" shows them\n"),
        ("start", "usage: start VM\n"),
        ("halt", "no command \"halt\"; \"help\" lists them\n"),
    ];
    for (line, text) in wrong {
        assert_eq!(run(line), (text.into(), CommandResult::Failed, Vec::new()));
    }
}

/// The way to see that a panic of Trivet is reported well; release images do not have it.
#[cfg(debug_assertions)]
#[test]
#[should_panic(expected = "the operator asked for it")]
fn panic_panics_in_the_dev_profile() {
    run("panic");
}

/// R26: the line may come over the wire.
#[test]
fn a_full_output_is_a_failure_and_no_panic() {
    struct Full;
    impl core::fmt::Write for Full {
        fn write_str(&mut self, _: &str) -> core::fmt::Result {
            Err(core::fmt::Error)
        }
    }
    for line in ["list", "stat", "memory", "memory map", "help", "stat alpha", "nonsense", "stop x"] {
        assert_eq!(execute(line, &Fake::default(), &mut Full), CommandResult::Failed, "{line}");
    }
}

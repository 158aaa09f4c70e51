//! The monitor against a runtime that only plays one.

use super::{ExitCounts, MemoryInfo, Operator, OwnMemory, PageUse, VmInfo, execute};
use crate::guest::lifecycle::{Refused, State};
use crate::link::CommandResult;
use crate::vcpu::exit::End;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;

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
            pages: PageUse {
                small: 565,
                huge: 9216,
                giant: 0,
                teams: 4,
                broken: 1,
                splits: 2,
                collapses: 3,
                retries: 7,
                flushes: 12,
            },
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
            pages: PageUse::default(),
            cpu_ticks: 0,
            exits: ExitCounts::default(),
        };
        [alpha, b].get(vm).copied()
    }
    fn memory(&self) -> MemoryInfo {
        let own = OwnMemory { image: 400 << 10, metadata: 512 << 10, heap: 64 << 10, tables: 120 << 10 };
        MemoryInfo { total: 1 << 30, free: 900 << 20, guests: 9781 << 12, firmware: 30 << 20, bundle: 50 << 20, own }
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
NO  VM     VCPUS      MEMORY  RESIDENT  RESTARTS  STATE
 1  alpha      2   512.0 MiB  38.2 MiB         0  running
 2  b          1  2048.0 MiB       0 B        11  ended: its operating system failed
";
    assert_eq!(printed("list"), want);
}

#[test]
fn stat_shows_counters() {
    let want = "\
VM     CPU TIME  EXITS  FAULTS  CALLS  INTERRUPTS  DEADLINES  HALTS
alpha   1.234 s  30850    9781  20480         512         77    400
b       0.000 s      0       0      0           0          0      0
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
tables        120.0 KiB
exits         30850
  faults      9781
  calls       20480
    unknown   3
  interrupts  512
  deadlines   77
halts         400
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
  guests             38.2 MiB    9781
  bundle             50.0 MiB   12800
  firmware           30.0 MiB    7680
  Trivet              1.0 MiB     274
    image           400.0 KiB     100
    frame account   512.0 KiB     128
    heap             64.0 KiB      16
    tables          120.0 KiB      30

VM         MEMORY  RESIDENT  FRAMES     TABLES    IN 4K     IN 2M  IN 1G
alpha   512.0 MiB  38.2 MiB    9781  120.0 KiB  2.2 MiB  36.0 MiB    0 B
b      2048.0 MiB       0 B       0        0 B      0 B       0 B    0 B

VM     FAULTS  RETRIES  FLUSHES  SPLITS  COLLAPSES  TEAMS  BROKEN
alpha    9781        7       12       2          3      4       1
b           0        0        0       0          0      0       0
";
    assert_eq!(printed("memory"), want);
    let want = "\
VM        MEMORY  RESIDENT  FRAMES     TABLES    IN 4K     IN 2M  IN 1G
alpha  512.0 MiB  38.2 MiB    9781  120.0 KiB  2.2 MiB  36.0 MiB    0 B

VM     FAULTS  RETRIES  FLUSHES  SPLITS  COLLAPSES  TEAMS  BROKEN
alpha    9781        7       12       2          3      4       1
";
    assert_eq!(printed("memory alpha"), want);
}

#[test]
fn help_names_every_command() {
    let text = printed("?");
    for spec in super::command::COMMANDS {
        assert!(text.contains(&format!("\n{}", spec.usage().0)), "{text}");
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
    for line in ["list", "stat", "memory", "help", "stat alpha", "nonsense", "stop x"] {
        assert_eq!(execute(line, &Fake::default(), &mut Full), CommandResult::Failed, "{line}");
    }
}

use proptest::collection::vec;
use proptest::prelude::any;
use proptest::{prop_assert, prop_assert_eq, proptest};
use services_double::Double;

use super::{Effect, Uart};
use crate::bus::Level;

/// As a system sets it up: FIFOs on with a trigger of 8, interrupts out and on.
fn ready() -> Uart {
    let mut uart = Uart::new();
    for (n, value) in [(2, 0x87), (4, 0x0b), (1, 0x01)] {
        assert_eq!(uart.write(n, value), Effect::None);
    }
    uart
}

#[test]
fn what_is_written_goes_out_and_the_transmitter_is_empty() {
    let (mut uart, s) = (ready(), Double::new(1));
    assert_eq!(uart.write(0, b'x'), Effect::Send(b'x'));
    assert_eq!((uart.read(5, &s), uart.line()), (0x60, Level::Low));
    // Enabling its interrupt raises it; being told takes it away; writing raises it again.
    assert_eq!(uart.write(1, 0x03), Effect::None);
    assert_eq!((uart.line(), uart.read(2, &s)), (Level::High, 0xc2));
    assert_eq!((uart.line(), uart.read(2, &s)), (Level::Low, 0xc1));
    assert_eq!(uart.write(0, b'y'), Effect::Send(b'y'));
    assert_eq!(uart.line(), Level::High);
    assert_eq!(uart.write(1, 0x01), Effect::None);
    assert_eq!(uart.line(), Level::Low);
}

#[test]
fn typed_text_comes_in_order_and_none_is_lost() {
    let (mut uart, s) = (ready(), Double::new(1));
    let text = b"the quick brown fox jumps";
    s.type_in(text);
    assert_eq!(uart.line(), Level::Low, "nobody has said so");
    uart.typed();
    assert_eq!((uart.line(), uart.read(2, &s)), (Level::High, 0xc4));
    let mut read = Vec::new();
    while uart.read(5, &s) & 1 != 0 {
        read.push(uart.read(0, &s));
    }
    assert_eq!((&read[..], uart.line(), uart.read(2, &s)), (&text[..], Level::Low, 0xc1));
    // Fewer than the trigger: the other receive interrupt.
    s.type_in(b"ab");
    uart.typed();
    assert_eq!((uart.read(2, &s), uart.read(0, &s), uart.read(2, &s)), (0xcc, b'a', 0xcc));
}

#[test]
fn without_fifos_one_byte_at_a_time() {
    let (mut uart, s) = (ready(), Double::new(1));
    let _ = uart.write(2, 0);
    s.type_in(b"ab");
    uart.typed();
    assert_eq!((uart.read(5, &s), s.untyped(), uart.read(2, &s)), (0x61, 1, 0x04));
    assert_eq!((uart.read(0, &s), uart.read(0, &s), uart.read(0, &s)), (b'a', b'b', 0));
}

#[test]
fn it_is_recognized_as_what_it_is() {
    let (mut uart, s) = (Uart::new(), Double::new(1));
    let _ = uart.write(1, 0xff);
    assert_eq!(uart.read(1, &s), 0x0f);
    let _ = uart.write(7, 0x5a);
    assert_eq!((uart.read(7, &s), uart.read(2, &s)), (0x5a, 0x02));
    let _ = uart.write(3, 0x83);
    let _ = uart.write(0, 1);
    assert_eq!((uart.read(0, &s), uart.read(1, &s), uart.read(3, &s)), (1, 0, 0x83));
    let _ = uart.write(3, 0x03);
    assert_eq!(uart.read(1, &s), 0x0f, "the divisor hides two registers, and no longer");
    // OUT2 lets interrupts out.
    assert_eq!(uart.line(), Level::Low);
    let _ = uart.write(0, b'z');
    let _ = uart.write(4, 0x08);
    assert_eq!((uart.line(), uart.read(6, &s)), (Level::High, 0xb0));
}

#[test]
fn loop_back_answers_itself_and_reaches_nobody() {
    let (mut uart, s) = (ready(), Double::new(1));
    for (control, status) in [(0x1a, 0x90), (0x11, 0x20), (0x14, 0x40), (0x1f, 0xf0), (0x10, 0)] {
        let _ = uart.write(4, control);
        assert_eq!(uart.read(6, &s), status);
    }
    s.type_in(b"outside");
    uart.typed();
    assert_eq!(uart.write(0, b'i'), Effect::None);
    assert_eq!((uart.read(5, &s), uart.read(0, &s), uart.read(5, &s)), (0x61, b'i', 0x60));
    let _ = uart.write(4, 0x0b);
    assert_eq!(uart.read(0, &s), b'o');
}

proptest! {
    /// R26: nothing panics, and whatever was done to it, a system that sets it up anew hears what is typed next.
    #[test]
    fn r26_no_guest_can_break_the_console(acts in vec((any::<bool>(), 0..9_u16, any::<u8>()), 1..200)) {
        let (mut uart, s) = (Uart::new(), Double::new(1));
        for (write, n, value) in acts {
            if n == 8 {
                s.type_in(&[value]);
                uart.typed();
            } else if write {
                let effect = uart.write(n, value);
                prop_assert!(effect == Effect::None || n == 0);
            } else {
                let _ = uart.read(n, &s);
            }
            prop_assert!(uart.count <= 16);
        }
        for (n, value) in [(3, 3), (4, 0x0b), (2, 0), (2, 7), (1, 1)] {
            let _ = uart.write(n, value);
        }
        s.type_in(b"!");
        uart.typed();
        prop_assert_eq!(uart.line(), Level::High);
        let mut last = 0;
        while uart.read(5, &s) & 1 != 0 {
            last = uart.read(0, &s);
        }
        prop_assert_eq!((last, s.untyped()), (b'!', 0));
    }
}

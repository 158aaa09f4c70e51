//! The virtual terminal: H_GET_TERM_CHAR and H_PUT_TERM_CHAR, up to 16 characters a call in two registers, the first
//! character in the most significant byte.

use hv_core::vcpu::services::Services;

use super::VTY_UNIT;
use super::hcall::Args;
use super::status::Status;

/// The terminal's number: its unit address, or 0 for the only one there is.
const fn is_terminal(number: u64) -> bool {
    number == 0 || number == VTY_UNIT as u64
}

/// H_GET_TERM_CHAR(terminal): r4 how many characters, r5 and r6 the characters.
pub fn get(args: &mut Args<'_>, s: &dyn Services) -> Status {
    if !is_terminal(args.param::<1>()) {
        return Status::Parameter;
    }
    let mut typed = [0; 16];
    let count = s.console_read(&mut typed).min(typed.len());
    args.answer::<1>(count as u64);
    if let [first, second] = typed.as_chunks::<8>().0 {
        args.answer::<2>(u64::from_be_bytes(*first));
        args.answer::<3>(u64::from_be_bytes(*second));
    }
    Status::Success
}

/// H_PUT_TERM_CHAR(terminal, how many, characters, characters).
pub fn put(args: &Args<'_>, s: &dyn Services) -> Status {
    let mut text = [0; 16];
    let (first, second) = text.split_at_mut(8);
    first.copy_from_slice(&args.param::<3>().to_be_bytes());
    second.copy_from_slice(&args.param::<4>().to_be_bytes());
    let count = usize::try_from(args.param::<2>()).ok();
    match count.and_then(|n| text.get(..n)) {
        Some(text) if is_terminal(args.param::<1>()) => {
            s.console_write(text);
            Status::Success
        }
        _ => Status::Parameter,
    }
}

#[cfg(test)]
mod tests {
    use crate::papr::double::{Calls as _, Double};
    use crate::papr::hcall::Hcall;
    use crate::papr::{Papr, VTY_UNIT};

    fn word(text: &[u8; 8]) -> u64 {
        u64::from_be_bytes(*text)
    }

    #[test]
    fn text_goes_out_in_order_and_only_as_much_as_said() {
        let (p, s) = (Papr::new(1).unwrap(), Double::new(1));
        let put = |count, a, b| {
            let args = [VTY_UNIT.into(), count, word(a), word(b)];
            s.call(&p, 0, Hcall::PutTermChar as u64, &args).0[3] as i64
        };
        assert_eq!(put(10, b"hello, w", b"orldXXXX"), 0);
        assert_eq!(put(0, b"XXXXXXXX", b"XXXXXXXX"), 0);
        assert_eq!(put(16, b"|2345678", b"9abcdef|"), 0);
        assert_eq!(put(17, b"XXXXXXXX", b"XXXXXXXX"), -4);
        assert_eq!(put(u64::MAX, b"XXXXXXXX", b"XXXXXXXX"), -4);
        assert_eq!(s.printed(), b"hello, wor|23456789abcdef|");
    }

    #[test]
    fn typed_text_comes_in_sixteen_at_a_time() {
        let (p, s) = (Papr::new(1).unwrap(), Double::new(1));
        s.type_in(b"0123456789abcdefg");
        let get = || s.call(&p, 0, Hcall::GetTermChar as u64, &[0]).0;
        assert_eq!(get()[3..7], [0, 16, word(b"01234567"), word(b"89abcdef")]);
        assert_eq!(get()[3..7], [0, 1, word(b"g\0\0\0\0\0\0\0"), 0]);
        assert_eq!(get()[3..5], [0, 0]);
    }

    #[test]
    fn other_terminals_are_refused() {
        let (p, s) = (Papr::new(1).unwrap(), Double::new(1));
        s.type_in(b"secret");
        for number in [1, u64::from(VTY_UNIT) + 1, u64::MAX] {
            assert_eq!(s.call(&p, 0, Hcall::GetTermChar as u64, &[number]).0[3] as i64, -4);
            assert_eq!(s.call(&p, 0, Hcall::PutTermChar as u64, &[number, 1, 0, 0]).0[3] as i64, -4);
        }
        assert_eq!((s.printed().len(), s.untyped()), (0, 6));
    }
}

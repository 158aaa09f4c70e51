//! Bare powernv, which has no board yet: say so through OPAL and switch off.
#![expect(unsafe_code, reason = "calls firmware at the entry point it handed over")]

unsafe extern "C" {
    fn trivet_call_opal(token: u64, a: u64, b: u64, c: u64, base: u64, entry: u64) -> i64;
}

const CONSOLE_WRITE: u64 = 1;
const CEC_POWER_DOWN: u64 = 5;
const POLL_EVENTS: u64 = 10;

/// Prints `text` on OPAL's console and powers the machine off.
///
/// # Safety
/// The CPU was entered by skiboot with these values in r8 and r9, and nothing of its memory has been overwritten.
pub unsafe fn refuse(text: &str, base: u64, entry: u64) -> ! {
    let mut at = 0;
    while let Some(rest) = text.as_bytes().get(at..)
        && !rest.is_empty()
    {
        let mut length = (rest.len() as u64).to_be();
        let length_at = (&raw mut length).expose_provenance() as u64;
        // SAFETY: the buffers are alive during the call, at real addresses.
        let status = unsafe {
            let text_at = rest.as_ptr().expose_provenance() as u64;
            trivet_call_opal(CONSOLE_WRITE, 0, length_at, text_at, base, entry)
        };
        // SAFETY: a live local, written by firmware behind the compiler's back.
        let written = u64::from_be(unsafe { (&raw const length).read_volatile() });
        if status == 0 {
            at += written as usize;
        }
        // SAFETY: no buffers.
        unsafe { trivet_call_opal(POLL_EVENTS, 0, 0, 0, base, entry) };
    }
    loop {
        // SAFETY: no buffers.
        unsafe {
            trivet_call_opal(CEC_POWER_DOWN, 0, 0, 0, base, entry);
            trivet_call_opal(POLL_EVENTS, 0, 0, 0, base, entry);
        }
    }
}

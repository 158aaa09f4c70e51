//! The firmware calls that are there: name in the device tree, token, how many arguments and results.

/// A firmware call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Token {
    /// Some kernels' early consoles use this number without looking it up.
    DisplayCharacter = 0x0a,
    PowerOff = 0x2000,
    PowerOffUps,
    SystemReboot,
    OsTerm,
    GetTimeOfDay,
    SetTimeOfDay,
    EventScan,
    CheckException,
    GetSystemParameter,
    StartCpu,
    StopSelf,
    QueryCpuStoppedState,
    SetXive,
    GetXive,
    IntOn,
    IntOff,
}

/// Every firmware call.
pub const ALL: [Token; 17] = [
    Token::DisplayCharacter,
    Token::PowerOff,
    Token::PowerOffUps,
    Token::SystemReboot,
    Token::OsTerm,
    Token::GetTimeOfDay,
    Token::SetTimeOfDay,
    Token::EventScan,
    Token::CheckException,
    Token::GetSystemParameter,
    Token::StartCpu,
    Token::StopSelf,
    Token::QueryCpuStoppedState,
    Token::SetXive,
    Token::GetXive,
    Token::IntOn,
    Token::IntOff,
];

impl Token {
    /// The call with this token.
    pub fn from_number(number: u32) -> Option<Self> {
        ALL.into_iter().find(|&t| t as u32 == number)
    }

    /// The property of `/rtas` that holds the token.
    pub const fn name(self) -> &'static str {
        match self {
            Self::DisplayCharacter => "display-character",
            Self::PowerOff => "power-off",
            Self::PowerOffUps => "ibm,power-off-ups",
            Self::SystemReboot => "system-reboot",
            Self::OsTerm => "ibm,os-term",
            Self::GetTimeOfDay => "get-time-of-day",
            Self::SetTimeOfDay => "set-time-of-day",
            Self::EventScan => "event-scan",
            Self::CheckException => "check-exception",
            Self::GetSystemParameter => "ibm,get-system-parameter",
            Self::StartCpu => "start-cpu",
            Self::StopSelf => "stop-self",
            Self::QueryCpuStoppedState => "query-cpu-stopped-state",
            Self::SetXive => "ibm,set-xive",
            Self::GetXive => "ibm,get-xive",
            Self::IntOn => "ibm,int-on",
            Self::IntOff => "ibm,int-off",
        }
    }

    /// Arguments, and results with the status.
    pub const fn cells(self) -> (usize, usize) {
        match self {
            Self::PowerOffUps | Self::SystemReboot | Self::StopSelf => (0, 1),
            Self::DisplayCharacter | Self::OsTerm | Self::IntOn | Self::IntOff => (1, 1),
            Self::PowerOff => (2, 1),
            Self::GetTimeOfDay => (0, 8),
            Self::SetTimeOfDay => (7, 1),
            Self::EventScan => (4, 1),
            Self::CheckException => (6, 1),
            Self::GetSystemParameter | Self::StartCpu | Self::SetXive => (3, 1),
            Self::QueryCpuStoppedState => (1, 2),
            Self::GetXive => (1, 3),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ALL, Token};

    #[test]
    fn tokens_and_names_are_unique() {
        for (n, a) in ALL.into_iter().enumerate() {
            assert_eq!(Token::from_number(a as u32), Some(a));
            assert!(ALL[n + 1..].iter().all(|b| a.name() != b.name()));
        }
        assert_eq!(Token::from_number(Token::IntOff as u32 + 1), None);
        assert_eq!(Token::IntOff as u32, 0x2000 + 15);
    }
}

//! `ibm,set-xive`, `ibm,get-xive`, `ibm,int-on`, `ibm,int-off`: routing and masking interrupt sources.

use hv_core::vcpu::services::Services;

use super::{Block, Outcome, Papr};
use crate::irq::xics::{Route, Unknown};

/// `ibm,set-xive`: source, server, priority.
pub fn set_xive(p: &Papr, block: &Block, me: u16, s: &dyn Services) -> Outcome {
    let [source, server, priority, ..] = block.args;
    let (Ok(server), Ok(priority)) = (u16::try_from(server), u8::try_from(priority)) else {
        return Outcome::ParameterError;
    };
    woken(p.xics.set_route(source, Route { server, priority }), me, s)
}

/// `ibm,get-xive`: source; server, priority.
pub fn get_xive(p: &Papr, block: &mut Block) -> Outcome {
    let Ok(route) = p.xics.route(block.args[0]) else {
        return Outcome::ParameterError;
    };
    block.values[..2].copy_from_slice(&[route.server.into(), route.priority.into()]);
    Outcome::Success
}

/// `ibm,int-on`: source.
pub fn int_on(p: &Papr, block: &Block, me: u16, s: &dyn Services) -> Outcome {
    woken(p.xics.unmask(block.args[0]), me, s)
}

/// `ibm,int-off`: source.
pub fn int_off(p: &Papr, block: &Block) -> Outcome {
    p.xics.mask(block.args[0]).map_or(Outcome::ParameterError, |()| Outcome::Success)
}

fn woken(wake: Result<Option<u16>, Unknown>, me: u16, s: &dyn Services) -> Outcome {
    match wake {
        Err(Unknown) => return Outcome::ParameterError,
        // The caller looks at its own line before it enters again.
        Ok(Some(server)) if server != me => s.wake(server),
        Ok(_) => {}
    }
    Outcome::Success
}

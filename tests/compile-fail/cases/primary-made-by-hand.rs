//! E0451: a frame and a size that no host table was asked for (R13).

use std::marker::PhantomData;

use hv_core::addr::{Hvn, Order, Pfn};
use hv_core::mmu::lock::Primary;
use hv_core::radix::format::Prot;

pub fn make<'g>(page: Hvn, pfn: Pfn) -> Option<Primary<'g>> {
    #[cfg(misuse)]
    return Some(Primary { page, pfn, order: Order::MIB2, prot: Prot::all(), section: PhantomData });
    #[cfg(not(misuse))]
    {
        let _: (Hvn, Pfn, Order, Prot, PhantomData<&'g ()>) = (page, pfn, Order::MIB2, Prot::all(), PhantomData);
        None
    }
}

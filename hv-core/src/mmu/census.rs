//! How much of a VM's memory is mapped by leaves of which size. Counted when somebody asks, so that a fault counts nothing.

use crate::addr::Order;

/// Leaves by size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Census([u64; Order::MAX.get() as usize + 1]);

impl Census {
    /// None.
    #[must_use]
    pub const fn new() -> Self {
        Self([0; Order::MAX.get() as usize + 1])
    }

    /// Counts one leaf.
    pub fn add(&mut self, order: Order) {
        if let Some(n) = self.0.get_mut(usize::from(order.get())) {
            *n = n.saturating_add(1);
        }
    }

    /// How many leaves of `order` there are.
    #[must_use]
    pub fn leaves(&self, order: Order) -> u64 {
        self.0.get(usize::from(order.get())).copied().unwrap_or(0)
    }

    /// How many pages all leaves map.
    #[must_use]
    pub fn pages(&self) -> u64 {
        let orders = (0..).map_while(Order::new);
        self.0.iter().zip(orders).fold(0, |sum, (n, order)| sum.saturating_add(n.saturating_mul(order.pages())))
    }
}

impl Default for Census {
    fn default() -> Self {
        Self::new()
    }
}

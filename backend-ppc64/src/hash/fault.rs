//! Between the two halves: from an access that hardware did not translate to the entry that it should go by.

//! What ends a guest's run, named alike for both vendors. `svm` and `vmx` make these of what their hardware says; the
//! vCPU answers them.
//!
//! Devices are where the guest has no RAM ([`HOLE`]): nothing is ever mapped there, so what a second-stage fault means is
//! decided by its address alone.

use hv_core::addr::Gpa;
use hv_core::vcpu::exit::Access;

use crate::bus::Width;
use crate::decode::Trapped;
use crate::event::Exception;
use crate::guest::layout::HOLE;

/// An exit's meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The second stage has to answer.
    Fault(Gpa, Access),
    /// Somebody else has to.
    Call(Call),
    /// A physical interrupt or NMI: the machine takes it.
    Interrupt,
    /// Trivet's own timer.
    Deadline,
    /// Nothing that a guest's run may end with.
    Broken(&'static str),
}

/// A request to the personality, or to what of the processor is emulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// VMMCALL or VMCALL.
    Hypercall,
    /// CPUID.
    Cpuid,
    /// RDMSR.
    ReadMsr,
    /// WRMSR.
    WriteMsr,
    /// IN, OUT, INS or OUTS.
    Port(PortAccess),
    /// A device's address was read or written: the instruction says the rest ([`crate::decode`]).
    Mmio(Gpa, Access),
    /// HLT.
    Halt,
    /// The vCPU was not entered: it has been halted, or waits for a start-up message.
    Held,
    /// The guest can take an interrupt now.
    InterruptWindow,
    /// The guest can take an NMI now.
    NmiWindow,
    /// XSETBV.
    Xsetbv,
    /// A control register that is not the guest's alone.
    ControlRegister(ControlAccess),
    /// MOV to CR8, whose operand is to be had from the instruction.
    TaskPriority,
    /// Nothing remains to be done for this instruction (WBINVD, PAUSE: memory is coherent, time passes).
    Skip(Trapped),
    /// An instruction that the virtual processor does not have.
    Undefined,
    /// An exception that ends the run only so that no guest can have the processor deliver it without end; it is to take it.
    Reflect(Exception),
    /// A triple fault: the processor shuts down, and a PC resets itself.
    TripleFault,
}

/// What became of an instruction that asked for a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortAccess {
    /// The port.
    pub port: u16,
    /// How wide.
    pub width: Width,
    /// Which way.
    pub direction: Direction,
    /// Where the data are.
    pub form: PortForm,
}

/// Which way data go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the processor.
    In,
    /// To the device.
    Out,
}

/// Where the data of a port access are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortForm {
    /// In AL, AX or EAX.
    Register,
    /// In memory, once. Segment and address size are to be had from the instruction.
    String,
    /// In memory, as often as the count register says.
    Repeated,
}

/// An access to a control register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlAccess {
    /// Control register `.0` becomes general register `.1`.
    Write(u8, u8),
    /// General register `.1` becomes control register `.0`.
    Read(u8, u8),
    /// CLTS.
    ClearTaskSwitched,
    /// LMSW of this value.
    LoadStatus(u16),
}

/// What a second-stage fault asks for. `last`: the access itself faulted, not the walk of the guest's tables before it.
#[must_use]
pub(crate) fn fault(gpa: Gpa, access: Access, stage: Stage) -> Cause {
    match (stage, access) {
        // Code and tables in devices: no memslot is there, so this ends as an error of the guest's.
        (Stage::Last, Access::Read | Access::Write) if HOLE.contains(&gpa) => Cause::Call(Call::Mmio(gpa, access)),
        _ => Cause::Fault(gpa, access),
    }
}

/// Which access a second-stage fault is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Hardware's walk of the guest's own tables.
    Walk,
    /// The access itself.
    Last,
}

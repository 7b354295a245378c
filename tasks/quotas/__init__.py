"""The quota cache of nova's API database and of cinder's: what it says, what is in use, and its repair."""

from tasks.quotas.counting import COMPONENTS, read
from tasks.quotas.repair import Change, Repair, plan_repair
from tasks.quotas.writing import RepairRefusedError, apply

__all__ = ["COMPONENTS", "Change", "Repair", "RepairRefusedError", "apply", "plan_repair", "read"]

from .finite import NotFinite as NotFinite
from .launch import train as train
from .launch import train_first_phase as train_first_phase

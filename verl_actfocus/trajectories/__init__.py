"""Trajectories on disk: one format for training, evaluation and diagnosis, read by reports and the viewer."""

from verl_actfocus.trajectories.files import read_trajectories, trajectory_files, write_trajectory
from verl_actfocus.trajectories.format import SIGNALS, VERSION, Trajectory, TrajectoryFormatError
from verl_actfocus.trajectories.playing import played

__all__ = [
    "SIGNALS",
    "VERSION",
    "Trajectory",
    "TrajectoryFormatError",
    "played",
    "read_trajectories",
    "trajectory_files",
    "write_trajectory",
]

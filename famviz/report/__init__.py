"""The report: one self-contained page about runs."""

from famviz.report.report import write_report
from famviz.report.sections import SECTIONS, cam_section, curves_section, machine_section

__all__ = ["SECTIONS", "cam_section", "curves_section", "machine_section", "write_report"]

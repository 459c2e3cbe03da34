"""The report: one self-contained page about runs."""

from famviz.report.report import SECTIONS, cam_section, curves_section, machine_section, write_report

__all__ = ["SECTIONS", "cam_section", "curves_section", "machine_section", "write_report"]

"""Real data sets as rows of the application: Japanese travel dialogues, a tourism survey, web logs, vouchers.

The rows are the sources' own; what the sources do not have is invented and listed in ARTIFICIAL, which `load`
reports. Old data sets are shifted by whole days so that they end now: order, gaps and hours of the day inside a
data set stay. Nothing else in this project needs the data folder.
"""

from sandbox.real_data.load import ARTIFICIAL, LoadReport, load

__all__ = ["ARTIFICIAL", "LoadReport", "load"]

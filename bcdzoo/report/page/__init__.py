"""The report: one page of HTML with everything that is known, computed and measured (``bcdzoo report``)."""

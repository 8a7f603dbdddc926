"""What leaves the process and comes back: atomic files and locks (`files`), result objects as data (`report`).

Loaded only where they are used: declared data (`schema`) and the runs and tables that studies record (`run_store`).
"""

from vibtheory.storage.files import locked as locked
from vibtheory.storage.files import read_sealed as read_sealed
from vibtheory.storage.files import read_state as read_state
from vibtheory.storage.files import write_bytes as write_bytes
from vibtheory.storage.files import write_sealed as write_sealed
from vibtheory.storage.files import write_state as write_state
from vibtheory.storage.files import write_text as write_text
from vibtheory.storage.report import Report as Report
from vibtheory.storage.report import as_json as as_json

"""2. For one (pos_id, receipt_id) there is at most one fiscal document, for ever."""

from collections import defaultdict
from typing import Any

from simulation.invariants.invariant import Invariant


class OneDocument(Invariant):
    """Judged by all storages, swapped ones too; and no reply names a document that is not there."""

    name = "one document"
    outlives_journal = True

    def told(self, topic: list[str], content: dict[str, Any]) -> None:
        if topic[0] != "pos" or content["status"] != "printed":
            return
        fiscal = content["fiscal"]
        if content["receipt_id"] in self.world.terminals[content["pos_id"]].retained:
            self.fail(f"{content['receipt_id']} was published as retained, and is printed")
        sale = self.world.terminals[content["pos_id"]].sales[content["receipt_id"]]
        fn, fd = fiscal["fn_number"], fiscal["fd_number"]
        documents = self.world.registers[fiscal["kkt"]].documents()
        owners = {(number, document.fd_number): document.body.requisite_1192 for number, document in documents}
        if owners.get((fn, fd)) != sale.requisite:
            self.fail(f"{sale.key} is told FD {fd} on FN {fn}, which is not its document")

    def finish(self) -> None:
        owners = {sale.requisite: sale.key for sale in self.world.sales()}
        documents = defaultdict(list)
        for register in self.world.registers.values():
            for fn, document in register.documents():
                if document.body.requisite_1192 in owners and not self.is_another_sale(fn, document):
                    documents[owners[document.body.requisite_1192]].append((fn, document.fd_number))
        if twice := {key: numbers for key, numbers in documents.items() if len(numbers) > 1}:
            self.fail(f"printed twice: {twice}")

"""What a page shows, as one JSON document: built here, drawn by the scripts of `scenarios/templates/page`.

Whoever has the document can draw the page: `report.html` carries it inside, a live page is sent it again and again.
"""

"""What a page shows, as one JSON document: built here, drawn by the scripts of `gossip/page/templates`.

Whoever has the document can draw the page: `report.html` carries it inside, a live page is sent it again and again.
"""
